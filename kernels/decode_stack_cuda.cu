// A decode step's blocks in one kernel. One thread block a multiprocessor, all resident
// (cooperative launch): warps 0 to 7 compute, warp 8 streams the block's weights of all stages of
// all layers through the ring (decode_stack.cuh), ahead of the stages, stopped only by the ring's
// size and by the choice of experts. The stages of a layer, each ending at the grid's barrier:
//   1 norm, qkv          2 attention over pages      3 merge, projection, residual
//   dense   4 norm, up, gelu            5 down, residual
//   routed  4 norm, gate, MLP's up      5 choice, MLP's down, experts' up
//           6 experts' down, mix
// What other blocks wrote is read after the barrier's acquire, which also drops this
// multiprocessor's L1, or past L1. An output's buffer is written again only stages later.

#include <algorithm>
#include <climits>
#include <cmath>

#include "kernels/decode_stack.h"
#include "kernels/decode_stack_attention.cuh"
#include "kernels/decode_stack_moe.cuh"

namespace imhotep::kernels::cuda {
namespace {

[[maybe_unused]] __device__ void produce_layers(const StackTask& t, const StackShared& shared,
                                                StackRing& ring, std::uint32_t routed) {
  std::uint32_t phase = 0;
  const int h = t.hidden;
  for (int i = 0; i < t.count; ++i) {
    const StackLayer& l = t.layers[i];
    produce(ring, l.qkv, 3 * h, h);
    produce(ring, l.proj, h, h);
    if (l.up != nullptr) {
      produce(ring, l.up, l.ffn, h);
      produce(ring, l.down, h, l.ffn);
    }
    if (l.experts == 0) continue;
    barrier_wait(routed, phase);
    phase ^= 1;
    const int listed = shared.listed;
    const std::int64_t size = static_cast<std::int64_t>(l.ffn) * h;
    for (int e = 0; e < listed; ++e) produce(ring, l.experts_up + shared.list[e] * size, l.ffn, h);
    for (int e = 0; e < listed; ++e) {
      produce(ring, l.experts_down + shared.list[e] * size, h, l.ffn);
    }
  }
}

[[maybe_unused]] __device__ void dense_block(StackBlock& b, const StackLayer& l, const Bf16* x1,
                                             Bf16* y) {
  const StackTask& t = b.task;
  const int h = t.hidden, f = l.ffn;
  fetch_norm(b.address(t.affine), l.gain2, l.shift2, h);
  b.grid.wait();
  norm_to_shared(b.address(t.narrow), b.address(t.affine), x1, t.tokens, h);
  multiply(
      b.ring, b.narrow(), b.floats(t.sums), f, [&](int r, int) { return to_float(l.up_bias[r]); },
      [&](int r, int column, float sum, float bias) {
        t.mlp_hidden[column * f + r] = from_float<Bf16>(gelu(sum + bias));
      });
  b.grid.arrive();
  b.grid.wait();
  const std::uint32_t wide = b.address(t.wide);
  rows_to_shared(wide, t.mlp_hidden, t.tokens, f);
  multiply(
      b.ring, {wide, f, t.tokens}, b.floats(t.sums), h,
      [&](int r, int column) { return to_float(l.down_bias[r]) + to_float(x1[column * h + r]); },
      [&](int r, int column, float sum, float rest) {
        y[column * h + r] = from_float<Bf16>(sum + rest);
      });
}

template <int kDim>
__device__ void consume_layers(StackBlock& b, std::uint32_t routed) {
  const StackTask& t = b.task;
  const int h = t.hidden;
  for (int i = 0; i < t.count; ++i) {
    const StackLayer& l = t.layers[i];
    const Bf16* x = i == 0 ? t.x : t.between;
    Bf16* y = i + 1 == t.count ? t.y : t.between;
    if (i > 0) b.grid.arrive();
    fetch_norm(b.address(t.affine), l.gain1, l.shift1, h);
    prefetch_pages<kDim>(b, l);
    b.grid.wait();
    norm_to_shared(b.address(t.narrow), b.address(t.affine), x, t.tokens, h);
    multiply(
        b.ring, b.narrow(), b.floats(t.sums), 3 * h,
        [&](int r, int) { return to_float(l.qkv_bias[r]); },
        [&](int r, int column, float sum, float bias) {
          t.qkv[column * 3 * h + r] = from_float<Bf16>(sum + bias);
        });
    b.grid.arrive();
    b.grid.wait();
    attend<kDim>(b, l);
    b.grid.arrive();
    b.grid.wait();
    contexts_to_shared<kDim>(b);
    multiply(
        b.ring, b.narrow(), b.floats(t.sums), h,
        [&](int r, int column) { return to_float(l.proj_bias[r]) + to_float(x[column * h + r]); },
        [&](int r, int column, float sum, float rest) {
          t.attended[column * h + r] = from_float<Bf16>(sum + rest);
        });
    b.grid.arrive();
    if (l.experts == 0) {
      dense_block(b, l, t.attended, y);
    } else {
      routed_block(b, l, t.attended, y, routed);
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kStackThreads, 1)
    decode_stack_kernel(const __grid_constant__ StackTask task) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) unsigned char memory[];
  auto& shared = *reinterpret_cast<StackShared*>(memory + task.shared);
  const std::uint32_t full = shared_address(memory + task.barriers), empty = full + 8 * kMostSlots,
                      routed = empty + 8 * kMostSlots;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < task.tokens) {
    shared.length[thread] = task.cached.length(thread);
    shared.sequence[thread] = task.cached.sequences[thread];
  }
  if (thread == 0) {
    for (int s = 0; s < task.slots; ++s) {
      barrier_init(full + 8 * s, 1);
      barrier_init(empty + 8 * s, kConsumerWarps);
    }
    barrier_init(routed, 1);
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async;" ::: "memory");
  }
  __syncthreads();
  StackRing ring{
      .memory = shared_address(memory), .full = full, .empty = empty, .slots = task.slots};
  if (thread >= kConsumers) return produce_layers(task, shared, ring, routed);
  StackBlock block{.task = task,
                   .memory = memory,
                   .shared = shared,
                   .ring = ring,
                   .grid = {.arrivals = task.arrivals}};
  consume_layers<kDim>(block, routed);
#endif
}

// ---- on the host

struct Places {  // takes aligned pieces of something, one after the other
  std::int64_t used = 0;
  std::int64_t take(std::int64_t bytes) {
    const std::int64_t at = used;
    used += ceil_div(bytes, 256) * 256;
    return at;
  }
};

void place_shared(StackTask& t, std::int64_t ffn, std::int64_t routes, std::int64_t available) {
  const auto arrange = [&](int slots) {
    Places p;
    t.slots = slots;
    p.take(static_cast<std::int64_t>(slots) * kSlotBytes);
    t.narrow = static_cast<int>(p.take(t.tokens * stack_pitch(t.hidden)));
    t.wide = static_cast<int>(p.take(routes * stack_pitch(static_cast<int>(ffn))));
    t.affine = static_cast<int>(p.take(4 * t.hidden));
    t.sums = static_cast<int>(p.take(kStackSumBytes));
    t.kept = static_cast<int>(p.take(2 * kGroupRows * kStackColumns * 4));
    t.shared = static_cast<int>(p.take(sizeof(StackShared)));
    t.barriers = static_cast<int>(p.take((2 * kMostSlots + 1) * 8));
    return p.used;
  };
  int slots = kMostSlots;
  while (slots > kLeastSlots && arrange(slots) > available) --slots;
  expect(arrange(slots) <= available, "decode_stack", "too many rows for the shared memory");
}

constexpr std::int64_t kSharedMost = 227 << 10;  // of a block with compute capability 9.0

void place_workspace(const Queue& queue, StackTask& t, std::int64_t ffn, std::int64_t experts,
                     std::int64_t routes) {
  Places p;
  auto* base = static_cast<unsigned char*>(queue.workspace);
  const auto take = [&]<class T>(T*& to, std::int64_t elements) {
    to = reinterpret_cast<T*>(base + p.take(elements * static_cast<std::int64_t>(sizeof(T))));
  };
  const std::int64_t rows = t.tokens, h = t.hidden;
  take(t.arrivals, 1);
  take(t.qkv, rows * 3 * h);
  take(t.between, rows * h);
  take(t.attended, rows * h);
  take(t.mlp_hidden, rows * ffn);
  take(t.expert_hidden, routes * ffn);
  take(t.partials, rows * t.cached.heads * t.splits * (t.cached.dim + kPartialPad));
  take(t.logits, rows * experts);
  take(t.coefficients, rows * 2);
  expect(p.used <= queue.workspace_bytes, "decode_stack", "the workspace is too small");
}

template <class T = Bf16>
const T* as(const void* pointer) {
  return static_cast<const T*>(pointer);
}
StackLayer layer_of(const DecodeLayer& s, const DecodeLayerOperands& o) {
  return {.gain1 = as(o.gain1),
          .shift1 = as(o.shift1),
          .qkv = as(o.qkv),
          .qkv_bias = as(o.qkv_bias),
          .proj = as(o.proj),
          .proj_bias = as(o.proj_bias),
          .gain2 = as(o.gain2),
          .shift2 = as(o.shift2),
          .up = as(o.up),
          .up_bias = as(o.up_bias),
          .down = as(o.down),
          .down_bias = as(o.down_bias),
          .gate = as<float>(o.gate),
          .coefficient = as<float>(o.coefficient),
          .coefficient_bias = as<float>(o.coefficient_bias),
          .noise = as<float>(o.noise),
          .experts_up = as(o.experts_up),
          .experts_up_bias = as(o.experts_up_bias),
          .experts_down = as(o.experts_down),
          .experts_down_bias = as(o.experts_down_bias),
          .expert = o.expert,
          .weight = static_cast<float*>(o.weight),
          .stats = static_cast<float*>(o.stats),
          .k_pages = static_cast<Bf16*>(o.k_pages),
          .v_pages = static_cast<Bf16*>(o.v_pages),
          .ffn = static_cast<int>(s.ffn),
          .experts = static_cast<int>(s.experts),
          .k = static_cast<int>(s.k),
          .residual = s.residual ? 1 : 0};
}

paged::Cached<Bf16> cached_of(const Queue& queue, const AttentionCached& s,
                              const DecodeStackOperands& o) {
  return {.positions = o.positions,
          .sequences = o.sequences,
          .block_table = o.block_table,
          .max_pages = s.max_pages,
          .page_size = s.page_size,
          .capacity = s.max_pages * s.page_size,
          .width = s.heads * s.head_dim,
          .page = paged::Divider::by(s.page_size),
          .rows = static_cast<int>(s.rows),
          .heads = static_cast<int>(s.heads),
          .dim = static_cast<int>(s.head_dim),
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_dim))),
          .fault = queue.fault};
}

void start(const Queue& queue, const StackTask& task) {
  IMHOTEP_CUDA(cudaMemsetAsync(task.arrivals, 0, sizeof(unsigned), stream_of(queue)));
  auto* kernel = task.cached.dim == 64 ? decode_stack_kernel<64> : decode_stack_kernel<128>;
  const auto bytes = task.barriers + (2 * kMostSlots + 1) * 8;
  IMHOTEP_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(context_of(queue).multiprocessors));
  config.blockDim = dim3(kStackThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(bytes);
  config.stream = stream_of(queue);
  config.attrs = &attribute;
  config.numAttrs = 1;
  check_cuda(static_cast<int>(cudaLaunchKernelEx(&config, kernel, task)), "decode_stack", __FILE__,
             __LINE__);
}

}  // namespace

void decode_stack(const Queue& queue, const DecodeStack& s, const DecodeStackOperands& o) {
  const AttentionCached& a = s.attention;
  const Context& context = context_of(queue);
  const std::int64_t h = a.heads * a.head_dim, grid = context.multiprocessors;
  expect(queue.dtype == Dtype::Bf16 && context.compute_major >= 9, "decode_stack",
         "CUDA takes bf16 on compute capability 9.0");
  expect((a.head_dim == 64 || a.head_dim == 128) && ceil_div(h, grid) <= kGroupRows &&
             a.max_pages * a.page_size < INT_MAX,
         "decode_stack", "CUDA takes head_dim 64 or 128 and 2^31 positions");
  std::int64_t ffn = 0, experts = 0, k = 1;
  for (const DecodeLayer& l : s.layers) {
    expect(suits_decode_stack(a.rows, l.k, h, l.ffn, l.experts), "decode_stack",
           "sizes beyond those of core/base/few_rows.h");
    ffn = std::max(ffn, l.ffn);
    experts = std::max(experts, l.experts);
    k = std::max(k, l.k);
  }
  StackTask task{.cached = cached_of(queue, a, o),
                 .used = o.used,
                 .x = static_cast<const Bf16*>(o.x),
                 .y = static_cast<Bf16*>(o.y),
                 .tokens = static_cast<int>(a.rows),
                 .hidden = static_cast<int>(h),
                 .splits = static_cast<int>(
                     std::clamp<std::int64_t>(grid / (a.rows * a.heads), 1, kStackSplits))};
  place_shared(task, ffn, a.rows * k, kSharedMost);
  place_workspace(queue, task, ffn, experts, a.rows * k);
  task.cached.qkv = task.qkv;
  const auto layers = static_cast<std::int64_t>(s.layers.size());
  for (std::int64_t first = 0; first < layers; first += kLaunchLayers) {
    task.count = static_cast<int>(std::min<std::int64_t>(kLaunchLayers, layers - first));
    for (int i = 0; i < task.count; ++i) {
      task.layers[i] = layer_of(s.layers[first + i], o.layers[first + i]);
    }
    start(queue, task);
    task.x = task.y;
  }
}

}  // namespace imhotep::kernels::cuda
