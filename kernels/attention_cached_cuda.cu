// Attention over pages: which kernels a call takes, and those for what is not in a hurry.
//   decode (not more rows than sequences, at most 128): one kernel, attention_cached_rows_cuda.cu
//   otherwise: append keys and values; then long runs of rows of one sequence by tensor cores,
//   attention_cached_tiles_cuda.cu, and the remaining rows one by one
//   head_dim other than 64 and 128: append, then attend_any below
// append: one block copies the keys and values of one row. attend_any: a block of 4 warps takes one
// head of one row; a warp reads one position at a time, its lanes every 32nd element.

#include <climits>
#include <cmath>

#include "kernels/attention_cached.cuh"
#include "kernels/attention_cached.h"

namespace imhotep::kernels::cuda {
namespace paged {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kMaxDim = 256;
constexpr int kElements = kMaxDim / kWarp;  // of a lane

template <class T>
__global__ void __launch_bounds__(kThreads) append(Cached<T> a, bool whole_packs) {
  const std::int64_t row = blockIdx.x;
  const int length = a.length(row);
  if (length == 0) return;
  const std::int64_t slot = a.slot(a.pages_of(a.sequences[row]), length - 1);
  const T* k = a.qkv + row * 3 * a.width + a.width;
  constexpr int kSize = Pack<T>::kSize;
  if (whole_packs) {
    for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * kSize; i < a.width;
         i += kThreads * kSize) {
      store_pack(a.k_pages + slot + i, load_pack(k + i));
      store_pack(a.v_pages + slot + i, load_pack(k + a.width + i));
    }
    return;
  }
  for (std::int64_t i = threadIdx.x; i < a.width; i += kThreads) {
    a.k_pages[slot + i] = k[i];
    a.v_pages[slot + i] = k[a.width + i];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) attend_any(Cached<T> a) {
  __shared__ float high_of[kWarps], total_of[kWarps], sum_of[kWarps][kMaxDim];
  const std::int64_t row = blockIdx.x / a.heads;
  const int head = static_cast<int>(blockIdx.x % a.heads);
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  T* ctx = a.ctx + row * a.width + head * a.dim;
  const int length = a.length(row);
  if (length == 0) {
    for (int d = static_cast<int>(threadIdx.x); d < a.dim; d += kThreads) {
      ctx[d] = from_float<T>(0);
    }
    if (head == 0 && threadIdx.x == 0 && a.positions[row] >= 0) {
      report_fault(a.fault, Fault::PositionOutOfRange, a.positions[row], a.capacity);
    }
    return;
  }
  const std::int32_t* pages = a.pages_of(a.sequences[row]);
  const T* from = a.qkv + row * 3 * a.width + head * a.dim;
  float q[kElements], sum[kElements] = {}, high = -INFINITY, total = 0;
#pragma unroll
  for (int i = 0; i < kElements; ++i) {
    const int d = lane + i * kWarp;
    q[i] = d < a.dim ? to_float(from[d]) * a.scale : 0.0F;
  }
  for (int position = warp; position < length; position += kWarps) {
    const std::int64_t at = a.slot(pages, position) + head * a.dim;
    float score = 0;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      const int d = lane + i * kWarp;
      if (d < a.dim) score = fmaf(q[i], to_float(a.k_pages[at + d]), score);
    }
    score = warp_sum(score);
    const float most = fmaxf(high, score), keep = expf(high - most), weight = expf(score - most);
    high = most;
    total = total * keep + weight;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      const int d = lane + i * kWarp;
      if (d < a.dim) sum[i] = sum[i] * keep + weight * to_float(a.v_pages[at + d]);
    }
  }
#pragma unroll
  for (int i = 0; i < kElements; ++i) sum_of[warp][lane + i * kWarp] = sum[i];
  if (lane == 0) {
    high_of[warp] = high;
    total_of[warp] = total;
  }
  __syncthreads();
  float most = high_of[0];  // finite: the first warp sees the first position
  for (int w = 1; w < kWarps; ++w) most = fmaxf(most, high_of[w]);
  total = 0;
  for (int w = 0; w < kWarps; ++w) total += total_of[w] * expf(high_of[w] - most);
  for (int d = static_cast<int>(threadIdx.x); d < a.dim; d += kThreads) {
    float all = 0;
    for (int w = 0; w < kWarps; ++w) all += sum_of[w][d] * expf(high_of[w] - most);
    ctx[d] = from_float<T>(all / total);
  }
}

bool aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignof(Pack<float>) == 0;
}

template <class T>
void run(const Queue& queue, const AttentionCached& shape, const AttentionCachedOperands& o) {
  const Cached<T> a{.qkv = static_cast<const T*>(o.qkv),
                    .positions = o.positions,
                    .sequences = o.sequences,
                    .block_table = o.block_table,
                    .k_pages = static_cast<T*>(o.k_pages),
                    .v_pages = static_cast<T*>(o.v_pages),
                    .ctx = static_cast<T*>(o.ctx),
                    .max_pages = shape.max_pages,
                    .page_size = shape.page_size,
                    .capacity = shape.max_pages * shape.page_size,
                    .width = shape.heads * shape.head_dim,
                    .page = Divider::by(shape.page_size),
                    .rows = static_cast<int>(shape.rows),
                    .heads = static_cast<int>(shape.heads),
                    .dim = static_cast<int>(shape.head_dim),
                    .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim))),
                    .fault = queue.fault};
  const bool packs =
      a.width % Pack<T>::kSize == 0 && aligned(o.qkv) && aligned(o.k_pages) && aligned(o.v_pages);
  const bool fast = packs && (a.dim == 64 || a.dim == 128);
  if (fast && shape.rows <= std::min<std::int64_t>(shape.sequences, kFreshRows) &&
      attend_each_row(queue, a, RowsTask::Decode)) {
    return;
  }
  append<T><<<static_cast<unsigned>(a.rows), kThreads, 0, stream_of(queue)>>>(a, packs);
  IMHOTEP_LAUNCHED("attention_cached: append");
  if (fast) {
    const bool tiles = attend_tiles(queue, a);
    attend_each_row(queue, a, tiles ? RowsTask::ShortRuns : RowsTask::All);
    return;
  }
  attend_any<T><<<static_cast<unsigned>(a.rows * a.heads), kThreads, 0, stream_of(queue)>>>(a);
  IMHOTEP_LAUNCHED("attention_cached");
}

}  // namespace
}  // namespace paged

void attention_cached(const Queue& queue, const AttentionCached& shape,
                      const AttentionCachedOperands& operands) {
  if (shape.rows * shape.heads == 0) return;
  expect(shape.head_dim <= paged::kMaxDim, "attention_cached",
         "head_dim above 256 has no CUDA kernel");
  expect(shape.rows * shape.heads <= INT_MAX && shape.max_pages * shape.page_size < INT_MAX,
         "attention_cached", "rows x heads, or the positions of a sequence, exceed 2^31");
  by_type(queue, "attention_cached",
          [&](auto zero) { paged::run<decltype(zero)>(queue, shape, operands); });
}

}  // namespace imhotep::kernels::cuda
