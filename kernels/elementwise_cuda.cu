// column_sum: a block of 32 x 8 threads takes 32 accesses of columns and a slice of the rows, and
// leaves one partial sum a column; add_partials sums the slices.
// add: one access of x and y a thread and turn.

#include "kernels/cuda_columns.cuh"
#include "kernels/elementwise.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kRowThreads = 8;   // rows a block reads at once
constexpr int kAhead = 8;        // loads in flight of a thread
constexpr int kBlocksPerSm = 4;  // all resident: 128 KiB in flight of a multiprocessor
constexpr int kFewestRows = 32;  // a slice that is worth a block
constexpr int kThreads = 256;

template <class T, int kStep>
__global__ void __launch_bounds__(kWarp* kRowThreads, kBlocksPerSm)
    sum_slice(ColumnSum shape, const T* x, float* partial) {
  __shared__ float sums[kRowThreads][kWarp * kStep];
  const int lane = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * kWarp * kStep;
  const std::int64_t column = block + lane * kStep;
  float sum[kStep] = {};
  if (column < shape.cols) {
    const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kRowThreads;
    for (std::int64_t row = blockIdx.y * kRowThreads + y; row < shape.rows; row += kAhead * step) {
      Raw<T, kStep> raw[kAhead];
#pragma unroll
      for (int r = 0; r < kAhead; ++r) {
        const std::int64_t at = row + r * step;
        if (at < shape.rows) raw[r] = load_raw<T, kStep>(x + at * shape.cols + column);
      }
#pragma unroll
      for (int r = 0; r < kAhead; ++r) {
        if (row + r * step >= shape.rows) continue;
        const Lanes<kStep> lanes = raw[r].lanes();
#pragma unroll
        for (int i = 0; i < kStep; ++i) sum[i] += lanes.at[i];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kStep; ++i) sums[y][i * kWarp + lane] = sum[i];
  __syncthreads();
  for (int i = y; i < kStep; i += kRowThreads) {
    float total = 0;
#pragma unroll
    for (int slice = 0; slice < kRowThreads; ++slice) total += sums[slice][i * kWarp + lane];
    if (column + i < shape.cols) partial[blockIdx.y * shape.cols + column + i] = total;
  }
}

template <class T, int kStep>
__global__ void __launch_bounds__(kThreads) add_elements(std::int64_t elements, const T* x, T* y) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads * kStep;
  std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kStep;
#pragma unroll 2
  for (; i < elements; i += step) {
    const Lanes<kStep> a = load_lanes<T, kStep>(x + i);
    Lanes<kStep> b = load_lanes<T, kStep>(y + i);
#pragma unroll
    for (int j = 0; j < kStep; ++j) b.at[j] += a.at[j];
    store_lanes<T, kStep>(y + i, b);
  }
}

}  // namespace

void column_sum(const Queue& queue, const ColumnSum& shape, const ColumnSumOperands& o) {
  if (shape.cols == 0) return;
  if (shape.rows == 0) {
    if (!shape.accumulate) cuda::fill(queue, {shape.cols}, {o.out});
    return;
  }
  by_type(queue, "column_sum", [&](auto zero) {
    using T = decltype(zero);
    by_step<T>(sixteen(shape.cols, sizeof(T), {o.x}), [&](auto step) {
      constexpr int kStep = decltype(step)::value;
      const std::int64_t across = ceil_div(shape.cols, kWarp * kStep);
      const std::int64_t fit =
          queue.workspace_bytes / (shape.cols * static_cast<std::int64_t>(sizeof(float)));
      expect(fit > 0 && across < (std::int64_t{1} << 31), "column_sum", "too many columns");
      const std::int64_t wanted =
          std::max<std::int64_t>(1, context_of(queue).multiprocessors * kBlocksPerSm / across);
      const unsigned slices = blocks_for(shape.rows, kFewestRows, std::min(fit, wanted));
      auto* partial = static_cast<float*>(queue.workspace);
      sum_slice<T, kStep><<<dim3(static_cast<unsigned>(across), slices), dim3(kWarp, kRowThreads),
                            0, stream_of(queue)>>>(shape, static_cast<const T*>(o.x), partial);
      IMHOTEP_LAUNCHED("column_sum");
      launch_add_partials<T>(queue,
                             {.partial = partial,
                              .count = static_cast<int>(slices),
                              .columns = shape.cols,
                              .out = {static_cast<T*>(o.out)},
                              .accumulate = shape.accumulate},
                             1);
    });
  });
}

namespace {

template <class T, int kStep>
void launch_add(const Queue& queue, std::int64_t elements, const T* x, T* y) {
  if (elements == 0) return;
  constexpr std::int64_t kTurns = 2, kMostBlocks = 1 << 20;
  add_elements<T, kStep><<<blocks_for(elements, kTurns * kThreads * kStep, kMostBlocks), kThreads,
                           0, stream_of(queue)>>>(elements, x, y);
  IMHOTEP_LAUNCHED("add");
}

}  // namespace

void add(const Queue& queue, const Add& shape, const AddOperands& o) {
  by_type(queue, "add", [&](auto zero) {
    using T = decltype(zero);
    const auto* x = static_cast<const T*>(o.x);
    auto* y = static_cast<T*>(o.y);
    const bool aligned = sixteen(0, sizeof(T), {o.x, o.y});
    const std::int64_t most = aligned ? shape.elements - shape.elements % kLanes<T> : 0;
    launch_add<T, kLanes<T>>(queue, most, x, y);
    launch_add<T, 1>(queue, shape.elements - most, x + most, y + most);
  });
}

void fill(const Queue& queue, const Fill& shape, const FillOperands& o) {
  if (shape.elements == 0) return;
  IMHOTEP_CUDA(cudaMemsetAsync(
      o.y, 0, static_cast<std::size_t>(shape.elements * bytes_of(queue.dtype)), stream_of(queue)));
}

}  // namespace imhotep::kernels::cuda
