#pragma once
// What one warp of the decode kernel does: read the positions that fall to it and keep an online
// softmax over them; and how such results are merged. See attention_cached_rows_cuda.cu.

#include <climits>

#include "kernels/attention_cached.cuh"

namespace imhotep::kernels::cuda::paged {

inline constexpr int kLoads = 4;  // of keys, and as many of values, in flight in each lane
inline constexpr float kLog2E = 1.4426950408889634F;

// Rows of this call that belong to the same sequence, up to the row's own position.
struct Fresh {
  int count, oldest;  // the least of their positions
  int position[kFreshRows], row[kFreshRows];
};

template <class T>
__device__ void find_fresh(const Cached<T>& a, std::int32_t sequence, int length, Fresh& fresh) {
  if (threadIdx.x == 0) {
    fresh.count = 0;
    fresh.oldest = INT_MAX;
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x);
  if (row < a.rows && a.sequences[row] == sequence) {
    const int own = a.length(row);
    if (own > 0 && own <= length) {
      const int at = atomicAdd(&fresh.count, 1), position = own - 1;
      fresh.position[at] = position;
      fresh.row[at] = row;
      atomicMin(&fresh.oldest, position);
    }
  }
  __syncthreads();
}

// Offset of the keys of a position in qkv, or -1 when they lie in a page.
template <class T>
__device__ std::int64_t fresh_keys(const Cached<T>& a, const Fresh& fresh, int position) {
  for (int i = 0; i < fresh.count; ++i) {
    if (fresh.position[i] == position) return fresh.row[i] * 3 * a.width + a.width;
  }
  return -1;
}

// The state of an online softmax over some positions: scores are in units of log 2.
template <int kSize>
struct State {
  float high = -INFINITY, total = 0, sum[kSize] = {};

  __device__ void merge(float other_high, float other_total, const float (&other)[kSize]) {
    const float most = fmaxf(high, other_high), base = most == -INFINITY ? 0 : most;
    const float keep = exp2f(high - base), add = exp2f(other_high - base);
    total = total * keep + other_total * add;
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum[i] = sum[i] * keep + other[i] * add;
    high = most;
  }
};

template <class T, int kDim>
struct Lanes {
  static constexpr int kSize = Pack<T>::kSize;         // elements of a lane
  static constexpr int kPerHead = kDim / kSize;        // lanes of a position
  static constexpr int kPositions = kWarp / kPerHead;  // positions of a warp's load
};

// The positions [begin, end) that fall to this warp, which is one of `parts`. Positions past the
// end are read as the last one and count nothing.
template <class T, int kDim>
__device__ State<Lanes<T, kDim>::kSize> walk(const Cached<T>& a, const Fresh& fresh,
                                             const std::int32_t* pages, const T* q, int head,
                                             int begin, int end, int part, int parts) {
  using L = Lanes<T, kDim>;
  constexpr int kSize = L::kSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int column = head * kDim + lane % L::kPerHead * kSize;
  float query[kSize];
  const Pack<T> loaded = load_pack(q + column);
#pragma unroll
  for (int i = 0; i < kSize; ++i) query[i] = to_float(loaded.value[i]) * (a.scale * kLog2E);
  State<kSize> state;
  const int stride = parts * L::kPositions, mine = part * L::kPositions + lane / L::kPerHead;
  for (int base = begin; base + part * L::kPositions < end; base += kLoads * stride) {
    // All page numbers are asked for before the first is used, and there is no branch between
    // here and the loads, but for the positions of this call.
    int position[kLoads];
    std::int64_t at[kLoads];
    const T *k[kLoads], *v[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      position[i] = min(base + i * stride + mine, end - 1);
      at[i] = a.slot(pages, position[i]) + column;
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      k[i] = a.k_pages + at[i];
      v[i] = a.v_pages + at[i];
    }
    if (base + kLoads * stride > fresh.oldest) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const std::int64_t here = fresh_keys(a, fresh, position[i]);
        if (here >= 0) {
          k[i] = a.qkv + here + column;
          v[i] = k[i] + a.width;
        }
      }
    }
    Pack<T> keys[kLoads], values[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) keys[i] = load_pack(k[i]);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) values[i] = load_pack(v[i]);
    float score[kLoads], most = state.high;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      float dot = 0;
#pragma unroll
      for (int j = 0; j < kSize; ++j) dot = fmaf(query[j], to_float(keys[i].value[j]), dot);
      for (int lanes = L::kPerHead / 2; lanes > 0; lanes /= 2) {
        dot += __shfl_xor_sync(0xffffffffU, dot, lanes);
      }
      score[i] = base + i * stride + mine < end ? dot : -INFINITY;
      most = fmaxf(most, score[i]);
    }
    const float safe = most == -INFINITY ? 0 : most, keep = exp2f(state.high - safe);
    state.high = most;
    state.total *= keep;
#pragma unroll
    for (int j = 0; j < kSize; ++j) state.sum[j] *= keep;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const float weight = exp2f(score[i] - safe);
      state.total += weight;
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        state.sum[j] = fmaf(weight, to_float(values[i].value[j]), state.sum[j]);
      }
    }
  }
#pragma unroll
  for (int lanes = L::kPerHead; lanes < kWarp; lanes *= 2) {
    float other[kSize];
    const float high = __shfl_xor_sync(0xffffffffU, state.high, lanes);
    const float total = __shfl_xor_sync(0xffffffffU, state.total, lanes);
#pragma unroll
    for (int j = 0; j < kSize; ++j) other[j] = __shfl_xor_sync(0xffffffffU, state.sum[j], lanes);
    state.merge(high, total, other);
  }
  return state;
}

// What a warp, and then a block, knows of one head.
template <int kDim>
struct Partial {
  float sum[kDim], high, total;
};

// Merges element `column` of `count` partials, `step` apart, in their order.
template <int kDim>
__device__ State<1> gather(const Partial<kDim>* partials, int count, int step, int column) {
  State<1> state;
  for (int i = 0; i < count; ++i) {
    const Partial<kDim>& p = partials[i * step];
    const float sum[1] = {p.sum[column]};
    state.merge(p.high, p.total, sum);
  }
  return state;
}

}  // namespace imhotep::kernels::cuda::paged
