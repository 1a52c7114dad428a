#pragma once
// Attention inside the decode stack: a unit is one row, one head and a part of the row's positions,
// as in attention_cached_rows_cuda.cu, but parts meet in device memory, where the projection merges
// them as it reads its activations. Only for decode_stack_cuda.cu.

#include "kernels/decode_stack_task.cuh"

namespace imhotep::kernels::cuda {

inline constexpr int kLeastPart = 32;  // positions that are worth a unit of their own

struct StackUnit {
  int row, head, split, active, begin, end;
  __device__ StackUnit(const StackBlock& b, int unit) {
    const int heads = b.task.cached.heads, splits = b.task.splits;
    split = unit % splits;
    head = unit / splits % heads;
    row = unit / splits / heads;
    const int length = b.shared.length[row];
    active = parts_of(b, row);
    const int share = active == 0 ? 0 : (length + active - 1) / active;
    begin = min(split * share, length);
    end = split < active ? min(begin + share, length) : begin;
  }
  [[nodiscard]] __device__ static int parts_of(const StackBlock& b, int row) {
    return min(b.task.splits, (b.shared.length[row] + kLeastPart - 1) / kLeastPart);
  }
};

[[nodiscard]] __device__ inline int stack_units(const StackTask& task) {
  return task.tokens * task.cached.heads * task.splits;
}

// Keys and values that this block will read, into L2.
template <int kDim>
__device__ void prefetch_pages(const StackBlock& b, const StackLayer& layer) {
  for (int u = static_cast<int>(blockIdx.x); u < stack_units(b.task); u += gridDim.x) {
    const StackUnit unit(b, u);
    const paged::Cached<Bf16>& a = b.task.cached;
    const std::int32_t* pages = a.pages_of(b.shared.sequence[unit.row]);
    for (int p = unit.begin + static_cast<int>(threadIdx.x); p < unit.end; p += kConsumers) {
      const std::int64_t at = a.slot(pages, p) + unit.head * kDim;
#pragma unroll
      for (int i = 0; i < kDim; i += 64) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(layer.k_pages + at + i));
        asm volatile("prefetch.global.L2 [%0];" ::"l"(layer.v_pages + at + i));
      }
    }
  }
}

// Rows of this call that belong to the sequence of `row`, up to its own position.
__device__ inline void find_fresh_rows(StackBlock& b, int row) {
  if (threadIdx.x == 0) {
    paged::Fresh& fresh = b.shared.fresh;
    fresh.count = 0;
    fresh.oldest = INT_MAX;
    for (int r = 0; r < b.task.tokens; ++r) {
      const int length = b.shared.length[r];
      if (b.shared.sequence[r] != b.shared.sequence[row] || length == 0 ||
          length > b.shared.length[row]) {
        continue;
      }
      fresh.position[fresh.count] = length - 1;
      fresh.row[fresh.count++] = r;
      fresh.oldest = min(fresh.oldest, length - 1);
    }
  }
  consumers_sync();
}

template <int kDim>
__device__ void attend_unit(StackBlock& b, const paged::Cached<Bf16>& a, int u) {
  using L = paged::Lanes<Bf16, kDim>;
  const StackUnit unit(b, u);
  if (unit.split >= unit.active) {
    if (threadIdx.x == 0 && unit.active == 0 && unit.split == 0 && unit.head == 0 &&
        a.positions[unit.row] >= 0) {
      report_fault(a.fault, Fault::PositionOutOfRange, a.positions[unit.row], a.capacity);
    }
    return;
  }
  const int thread = static_cast<int>(threadIdx.x), warp = consumer_warp(), lane = lane_id();
  const std::int32_t* pages = a.pages_of(b.shared.sequence[unit.row]);
  find_fresh_rows(b, unit.row);
  const Bf16* q = a.qkv + unit.row * 3 * a.width;
  if (unit.split == unit.active - 1 && thread < 2 * L::kPerHead) {
    const bool keys = thread < L::kPerHead;
    const int column = unit.head * kDim + thread % L::kPerHead * L::kSize;
    Bf16* to = keys ? a.k_pages : a.v_pages;
    store_pack(to + a.slot(pages, b.shared.length[unit.row] - 1) + column,
               load_pack(q + (keys ? 1 : 2) * a.width + column));
  }
  const auto state = paged::walk<Bf16, kDim>(a, b.shared.fresh, pages, q, unit.head, unit.begin,
                                             unit.end, warp, kConsumerWarps);
  auto* warps = reinterpret_cast<paged::Partial<kDim>*>(b.memory + b.task.sums);
  if (lane < L::kPerHead) {
#pragma unroll
    for (int j = 0; j < L::kSize; ++j) warps[warp].sum[lane * L::kSize + j] = state.sum[j];
  }
  if (lane == 0) {
    warps[warp].high = state.high;
    warps[warp].total = state.total;
  }
  consumers_sync();
  if (thread < kDim) {
    const paged::State<1> all = paged::gather(warps, kConsumerWarps, 1, thread);
    float* to = b.task.partials + static_cast<std::int64_t>(u) * (kDim + kPartialPad);
    to[thread] = all.sum[0];
    if (thread == 0) *reinterpret_cast<float2*>(to + kDim) = make_float2(all.high, all.total);
  }
  consumers_sync();
}

template <int kDim>
__device__ void attend(StackBlock& b, const StackLayer& layer) {
  static_assert(kConsumerWarps * sizeof(paged::Partial<kDim>) <= kStackSumBytes);
  paged::Cached<Bf16> a = b.task.cached;
  a.k_pages = layer.k_pages;
  a.v_pages = layer.v_pages;
  for (int u = static_cast<int>(blockIdx.x); u < stack_units(b.task); u += gridDim.x) {
    attend_unit<kDim>(b, a, u);
  }
}

// The contexts of all rows, merged, in the narrow activations. Ends with a barrier.
template <int kDim>
__device__ void contexts_to_shared(const StackBlock& b) {
  const StackTask& t = b.task;
  for (int i = static_cast<int>(threadIdx.x) * 4; i < t.tokens * t.hidden; i += kConsumers * 4) {
    const int row = i / t.hidden, column = i - row * t.hidden, head = column / kDim;
    const int active = StackUnit::parts_of(b, row);
    const float* from =
        t.partials +
        static_cast<std::int64_t>((row * t.cached.heads + head) * t.splits) * (kDim + kPartialPad);
    float4 sum[kStackSplits];
    float2 state[kStackSplits];
#pragma unroll
    for (int s = 0; s < kStackSplits; ++s) {
      const float* at = from + s * (kDim + kPartialPad);
      const bool has = s < active;
      sum[s] = has ? __ldcg(reinterpret_cast<const float4*>(at + column % kDim))
                   : make_float4(0, 0, 0, 0);
      state[s] =
          has ? __ldcg(reinterpret_cast<const float2*>(at + kDim)) : make_float2(-INFINITY, 0);
    }
    float most = -INFINITY;
#pragma unroll
    for (int s = 0; s < kStackSplits; ++s) most = fmaxf(most, state[s].x);
    if (most == -INFINITY) most = 0;
    float total = 0;
    float4 all = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int s = 0; s < kStackSplits; ++s) {
      const float share = exp2f(state[s].x - most);
      total += state[s].y * share;
      all.x += sum[s].x * share;
      all.y += sum[s].y * share;
      all.z += sum[s].z * share;
      all.w += sum[s].w * share;
    }
    const float scale = total > 0 ? 1.0F / total : 0.0F;  // padding: zeros
    const uint2 packed =
        make_uint2(pack(all.x * scale, all.y * scale), pack(all.z * scale, all.w * scale));
    *reinterpret_cast<uint2*>(b.memory + t.narrow + row * stack_pitch(t.hidden) + column * 2) =
        packed;
  }
  consumers_sync();
}

}  // namespace imhotep::kernels::cuda
