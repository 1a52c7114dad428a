// Column sums of each expert's rows in two stages, so that neither many experts nor one that has
// all the rows leaves SMs idle, and the order of additions is fixed. First: the rows of an expert
// are cut into chunks; a block sums 256 columns of one chunk (8 bf16 or 4 fp32 a thread at once,
// the row lanes added in order) into the workspace. Second: a thread adds the chunks of one column.

#include "kernels/cuda_common.cuh"
#include "kernels/grouped_gemm.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kColumns = 256, kThreads = 256;
constexpr std::int64_t kChunkRows = 256;

struct Sum {
  const std::int32_t* offsets;
  std::int64_t experts, bound, columns, chunk_rows;
  const void* in;
  void* out;
  float* partial;  // [chunks, columns]
  FaultRecord* fault;
};

struct Chunk {
  std::int64_t expert, row, rows, first, count;  // first, count: chunks of the expert
};

__device__ std::int64_t row_of(const Sum& s, std::int64_t expert) {
  return min(std::int64_t{s.offsets[expert]}, s.bound);
}

// The chunk of this number, or (whole) the chunks of the expert of this number. One warp; the lane
// that knows writes. Returns whether there is one.
__device__ bool find(const Sum& s, std::int64_t number, bool whole, Chunk& chunk) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  std::int64_t before = 0;
  for (std::int64_t base = 0; base < s.experts; base += kWarp) {
    const std::int64_t e = base + lane;
    const std::int64_t begin = e < s.experts ? row_of(s, e) : 0;
    const std::int64_t rows = e < s.experts ? max(row_of(s, e + 1) - begin, std::int64_t{0}) : 0;
    const std::int64_t count = ceil_div(rows, s.chunk_rows);
    std::int64_t sum = count;
    for (int lanes = 1; lanes < kWarp; lanes *= 2) {
      const std::int64_t left = __shfl_up_sync(0xffffffffU, sum, lanes);
      if (lane >= lanes) sum += left;
    }
    sum += before;
    const bool mine = whole ? e == number : count > 0 && sum > number && sum - count <= number;
    if (mine) {
      const std::int64_t first = sum - count, at = whole ? 0 : (number - first) * s.chunk_rows;
      chunk = {e, begin + at, min(s.chunk_rows, rows - at), first, count};
    }
    if (__any_sync(0xffffffffU, mine)) return true;
    before = __shfl_sync(0xffffffffU, sum, kWarp - 1);
  }
  return false;
}

template <class T, int kWidth>
__device__ void add_row(const T* from, float (&sums)[kWidth]) {
  if constexpr (kWidth == 1) {
    sums[0] += to_float(*from);
  } else {
    const Pack<T> pack = load_pack(from);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[i] += to_float(pack.value[i]);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) sum_chunks(const Sum s) {
  constexpr int kLanes = kColumns / kWidth, kRowLanes = kThreads / kLanes;
  __shared__ Chunk chunk;
  __shared__ bool found;
  __shared__ float sums[kRowLanes][kColumns];
  const std::int64_t strips = ceil_div(s.columns, kColumns);
  const std::int64_t column = blockIdx.x % strips * kColumns;
  if (threadIdx.x < kWarp) {
    const bool any = find(s, blockIdx.x / strips, false, chunk);
    if (threadIdx.x == 0) {
      found = any;
      const std::int64_t rows = s.offsets[s.experts];
      if (blockIdx.x == 0 && rows > s.bound) {
        report_fault(s.fault, Fault::RowsExceedBound, rows, s.bound);
      }
    }
  }
  __syncthreads();
  if (!found) return;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row_lane = static_cast<int>(threadIdx.x) / kLanes;
  float mine[kWidth] = {};
  if (column + lane * kWidth < s.columns) {
    const T* from =
        static_cast<const T*>(s.in) + (chunk.row + row_lane) * s.columns + column + lane * kWidth;
#pragma unroll 8
    for (std::int64_t row = row_lane; row < chunk.rows; row += kRowLanes) {
      add_row<T, kWidth>(from, mine);
      from += kRowLanes * s.columns;
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sums[row_lane][lane * kWidth + i] = mine[i];
  __syncthreads();
  const int x = static_cast<int>(threadIdx.x);
  if (x < kColumns && column + x < s.columns) {
    float total = 0;
    for (int i = 0; i < kRowLanes; ++i) total += sums[i][x];
    s.partial[(chunk.first + (chunk.row - row_of(s, chunk.expert)) / s.chunk_rows) * s.columns +
              column + x] = total;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) add_chunks(const Sum s) {
  __shared__ Chunk chunk;
  const std::int64_t strips = ceil_div(s.columns, kThreads);
  if (threadIdx.x < kWarp) find(s, blockIdx.x / strips, true, chunk);
  __syncthreads();
  const std::int64_t column = blockIdx.x % strips * kThreads + threadIdx.x;
  if (column >= s.columns || chunk.count == 0) return;
  float total = 0;
#pragma unroll 4
  for (std::int64_t i = 0; i < chunk.count; ++i) {
    total += s.partial[(chunk.first + i) * s.columns + column];
  }
  T& out = static_cast<T*>(s.out)[chunk.expert * s.columns + column];
  out = from_float<T>(to_float(out) + total);
}

}  // namespace

void grouped_column_sum(const Queue& queue, const GroupedColumnSum& shape,
                        const GroupedColumnSumOperands& operands) {
  const char* family = "grouped_column_sum";
  if (shape.rows.bound == 0 || shape.experts == 0 || shape.cols == 0) return;
  Sum s{.offsets = operands.expert_offsets,
        .experts = shape.experts,
        .bound = shape.rows.bound,
        .columns = shape.cols,
        .chunk_rows = kChunkRows,
        .in = operands.in,
        .out = operands.out,
        .partial = static_cast<float*>(queue.workspace),
        .fault = queue.fault};
  const auto chunks = [&] { return ceil_div(s.bound, s.chunk_rows) + s.experts; };
  const auto bytes = [&] {
    return chunks() * s.columns * static_cast<std::int64_t>(sizeof(float));
  };
  while (bytes() > queue.workspace_bytes && s.chunk_rows < s.bound) s.chunk_rows *= 2;
  expect(bytes() <= queue.workspace_bytes, family, "the workspace is too small");
  const std::int64_t blocks = chunks() * ceil_div(s.columns, kColumns);
  const std::int64_t adders = s.experts * ceil_div(s.columns, kThreads);
  expect(blocks < (std::int64_t{1} << 31) && adders < (std::int64_t{1} << 31), family,
         "more blocks than a grid may have");
  const cudaStream_t stream = stream_of(queue);
  by_type(queue, family, [&](auto zero) {
    using T = decltype(zero);
    const bool packs =
        s.columns % Pack<T>::kSize == 0 && reinterpret_cast<std::uintptr_t>(s.in) % 16 == 0;
    if (packs) {
      sum_chunks<T, Pack<T>::kSize><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(s);
    } else {
      sum_chunks<T, 1><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(s);
    }
    IMHOTEP_LAUNCHED("grouped_column_sum");
    add_chunks<T><<<static_cast<unsigned>(adders), kThreads, 0, stream>>>(s);
    IMHOTEP_LAUNCHED("grouped_column_sum");
  });
}

}  // namespace imhotep::kernels::cuda
