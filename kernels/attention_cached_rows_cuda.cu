// Attention over pages, row by row: what decoding needs.
// A block of 8 warps takes one row, some neighbouring heads and a part of the row's positions. A
// warp reads the keys of one head 16 bytes a lane: head_dim 64 in bf16 takes 8 lanes, so a warp
// holds 4 positions in one load. It copies 2 such loads of keys and 2 of values while it computes
// with as many; with 4 blocks a multiprocessor 64 to 128 KiB are in flight. Each group of lanes
// keeps its own running maximum, sum and context (online softmax); they are merged by shuffles,
// over the warps through shared memory, and over the blocks of a row, which form a cluster, through
// the shared memory of its first block. So nothing passes through device memory, and no second
// kernel is needed. How many blocks of a cluster work is decided on the device from the row's
// length; the others leave at once. In a decode step the kernel appends too: a position that the
// call itself brings is read from qkv, never from its page, so no block waits for another, and what
// pages hold of earlier steps is on its way before the kernel that makes qkv is done.

#include <algorithm>
#include <climits>
#include <cmath>

#include "kernels/attention_cached_ring.cuh"
#include "kernels/cuda_launch.cuh"

namespace imhotep::kernels::cuda::paged {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kMaxSplits = 8;     // blocks of a portable cluster
constexpr int kMaxHeads = 4;      // of a block
constexpr int kLeast = 64;        // positions that are worth a block of their own
constexpr int kSpan = 256;        // positions after which a row takes one more block
constexpr int kBlocksWanted = 3;  // of each multiprocessor
constexpr int kBlocksFit = 4;     // the same, at once

struct Split {
  int groups = 1, heads = 1;               // heads of a block, blocks for all heads
  int splits = 1, fill = 1;                // blocks of a row: at most; as many as fill the machine
  std::uint8_t best[kMaxSplits + 1] = {};  // blocks of a row that wants so many at least
  bool append = false;                     // and take this call's keys from qkv; begin early
  bool short_runs = false;                 // leave long runs alone
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
// The first arrival says only that a block runs; the second, that its stores may be read.
__device__ void cluster_start() { asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory"); }
__device__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
__device__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
// Into the shared memory of the cluster's first block, at the place of `local` in this one.
__device__ void store_first(float* local, float value) {
  std::uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, 0;"
      : "=r"(address)
      : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(local))));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}
#else  // one block a row
__device__ void cluster_start() {}
__device__ void cluster_arrive() {}
__device__ void cluster_wait() {}
__device__ void store_first(float* local, float value) { *local = value; }
#endif

template <class T>
__device__ void clear(T* to, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) to[i] = from_float<T>(0);
}
template <class T>
__device__ void append(const Cached<T>& a, std::int64_t row, std::int64_t slot, int begin,
                       int count) {
  constexpr int kSize = Pack<T>::kSize;
  const T* k = a.qkv + row * 3 * a.width + a.width + begin;
  for (int i = static_cast<int>(threadIdx.x) * kSize; i < count; i += kThreads * kSize) {
    store_pack(a.k_pages + slot + begin + i, load_pack(k + i));
    store_pack(a.v_pages + slot + begin + i, load_pack(k + a.width + i));
  }
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads, kBlocksFit) attend_rows(Cached<T> a, Split s) {
  extern __shared__ __align__(128) unsigned char rings[];
  __shared__ Fresh fresh;
  __shared__ Partial<kDim> warps[kWarps], blocks[kMaxSplits * kMaxHeads];
  const int split = static_cast<int>(blockIdx.x) % s.splits,
            item = static_cast<int>(blockIdx.x) / s.splits;
  const int row = item / s.groups, first = item % s.groups * s.heads;
  T* ctx = a.ctx + row * a.width + first * kDim;
  launch_dependents();
  const int length = a.length(row);
  if (length == 0) {
    wait_for_predecessors();
    if (split == 0) clear(ctx, s.heads * kDim);
    if (split == 0 && first == 0 && threadIdx.x == 0 && a.positions[row] >= 0) {
      report_fault(a.fault, Fault::PositionOutOfRange, a.positions[row], a.capacity);
    }
    return;
  }
  const int least = min(max(s.fill, (length + kSpan - 1) / kSpan), s.splits);
  const int active = min(static_cast<int>(s.best[least]), (length + kLeast - 1) / kLeast);
  if (split >= active || (s.short_runs && in_long_run(a, row))) return wait_for_predecessors();
  cluster_start();  // the others may write into this block's shared memory

  const std::int32_t sequence = a.sequences[row];
  const std::int32_t* pages = a.pages_of(sequence);
  if (s.append) {
    find_fresh(a, sequence, length, fresh);
  } else {
    if (threadIdx.x == 0) fresh.oldest = INT_MAX;
    __syncthreads();
  }
  const int share = (length + active - 1) / active, begin = split * share;
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  using L = Lanes<T, kDim>;
  RingWalk<T, kDim> w(a, fresh, pages);
  w.column = (first + warp % s.heads) * kDim + lane % L::kPerHead * L::kSize;
  w.begin = begin;
  w.end = min(begin + share, length);
  w.first = warp / s.heads * L::kPositions;
  w.mine = w.first + lane / L::kPerHead;
  w.stride = kWarps / s.heads * L::kPositions;
  w.ring = shared_address(rings) + warp * kRingBytes + lane * 16;
  if (s.append) begin_ring<T, kDim>(w);
  wait_for_predecessors();
  if (s.append && split == active - 1) {
    append(a, row, a.slot(pages, length - 1), first * kDim, s.heads * kDim);
  }
  const auto state = walk_ring<T, kDim>(w, a.qkv + row * 3 * a.width, s.append);
  if (lane < L::kPerHead) {
#pragma unroll
    for (int j = 0; j < L::kSize; ++j) warps[warp].sum[lane * L::kSize + j] = state.sum[j];
  }
  if (lane == 0) {
    warps[warp].high = state.high;
    warps[warp].total = state.total;
  }
  __syncthreads();
  cluster_wait();
  for (int i = static_cast<int>(threadIdx.x); i < s.heads * kDim; i += kThreads) {
    const int head = i / kDim, column = i % kDim;
    const State<1> all = gather(warps + head, kWarps / s.heads, s.heads, column);
    if (active == 1) {
      ctx[i] = from_float<T>(all.sum[0] / all.total);
      continue;
    }
    Partial<kDim>& to = blocks[split * kMaxHeads + head];
    store_first(&to.sum[column], all.sum[0]);
    if (column == 0) {
      store_first(&to.high, all.high);
      store_first(&to.total, all.total);
    }
  }
  if (active == 1) return;
  cluster_arrive();
  cluster_wait();
  if (split != 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < s.heads * kDim; i += kThreads) {
    const State<1> all = gather(blocks + i / kDim, active, kMaxHeads, i % kDim);
    ctx[i] = from_float<T>(all.sum[0] / all.total);
  }
}

// The number of blocks a row, at least `least`, whose busiest multiprocessor has least to do.
void choose_splits(Split& s, std::int64_t items, std::int64_t multiprocessors) {
  constexpr double kOverhead = 0.02;  // of a block, in parts of a row's time
  for (int least = 1; least <= s.splits; ++least) {
    double best = HUGE_VAL;
    for (int splits = least; splits <= s.splits; ++splits) {
      const auto most = static_cast<double>(ceil_div(items * splits, multiprocessors));
      const double time = most * (1.0 / splits + kOverhead);
      if (time >= best) continue;
      best = time;
      s.best[least] = static_cast<std::uint8_t>(splits);
    }
  }
}

// More heads to a block, and so longer reads, as soon as the blocks suffice.
Split split_of(const Context& context, std::int64_t rows, std::int64_t heads,
               std::int64_t capacity) {
  const std::int64_t most = context.compute_major >= 9 ? kMaxSplits : 1;
  Split s{.heads = kMaxHeads};
  while (s.heads > 1 &&
         (heads % s.heads != 0 || rows * (heads / s.heads) * most < context.multiprocessors)) {
    s.heads /= 2;
  }
  s.groups = static_cast<int>(heads / s.heads);
  const std::int64_t wanted = kBlocksWanted * static_cast<std::int64_t>(context.multiprocessors);
  const std::int64_t fill = std::clamp<std::int64_t>(ceil_div(wanted, rows * s.groups), 1, most);
  s.fill = static_cast<int>(fill);
  s.splits = static_cast<int>(std::clamp(ceil_div(capacity, kSpan), fill, most));
  choose_splits(s, rows * s.groups, context.multiprocessors);
  return s;
}

template <class T, int kDim>
void launch(const Queue& queue, const Cached<T>& a, RowsTask task) {
  const Context& context = context_of(queue);
  Split s = split_of(context, a.rows, a.heads, a.capacity);
  s.append = task == RowsTask::Decode;
  s.short_runs = task == RowsTask::ShortRuns;
  const std::int64_t blocks = static_cast<std::int64_t>(a.rows) * s.groups * s.splits;
  expect(blocks <= INT_MAX, "attention_cached", "too many rows in a call");
  constexpr int kRings = kWarps * kRingBytes;
  IMHOTEP_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(attend_rows<T, kDim>),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, kRings));
  launch_early(queue,
               {.grid = {static_cast<unsigned>(blocks)},
                .block = {kThreads},
                .shared_bytes = kRings,
                .cluster = static_cast<unsigned>(s.splits),
                .name = "attention_cached: rows"},
               attend_rows<T, kDim>, a, s);
}

}  // namespace

template <class T>
bool attend_each_row(const Queue& queue, const Cached<T>& a, RowsTask task) {
  if (a.dim == 64) {
    launch<T, 64>(queue, a, task);
  } else if (a.dim == 128) {
    launch<T, 128>(queue, a, task);
  } else {
    return false;
  }
  return true;
}
template bool attend_each_row(const Queue&, const Cached<float>&, RowsTask);
template bool attend_each_row(const Queue&, const Cached<Bf16>&, RowsTask);

}  // namespace imhotep::kernels::cuda::paged
