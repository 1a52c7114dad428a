// Tables of the exchange. Packing is a stable counting sort by expert (stable_rank.cuh). Receiving
// scans the cells (source, expert) in both orders in every block, one run of cells a thread; each
// row of the index then finds its cell by bisection, a row a thread.

#include "kernels/dispatch.h"

#include <algorithm>

#include "kernels/stable_rank.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kReceiveThreads = 512;
constexpr int kReceiveRows = 4096;  // of a block: 8 a thread
constexpr std::int64_t kReceiveBlocks = 64;
constexpr std::int64_t kSharedBytes = 48 * 1024;  // what every kernel may have

struct PackedRoutes {
  const std::int32_t* experts = nullptr;
  std::int32_t* order = nullptr;
  std::int32_t* position = nullptr;
  std::int32_t* segments = nullptr;
  std::int32_t* counts = nullptr;
  std::int64_t begin = 0, end = 0;  // routes of the tokens this rank answers for
  int k = 1, copies = 1, local = 1, lanes = 1, lane = 0;
  int ranks = 1;  // expert ranks of a lane

  __device__ int expert(std::int64_t i) const { return i >= begin && i < end ? experts[i] : -1; }
  __device__ int at(int q) const {
    if (lanes == 1) return q;
    const int rank = q / local;
    return (rank % ranks * lanes + rank / ranks) * local + q % local;
  }
  // Where the experts of an expert rank start in the order of rows.
  __device__ int start_of(int rank) const {
    return (lanes == 1 ? rank : rank % lanes * ranks + rank / lanes) * local;
  }
  __device__ void put(std::int64_t i, int e, int place, const int* first) const {
    const int q = start_of(e / local);
    const int before = first[q], rows = first[q + local] - before;  // of one copy of the rank
    int row = before * copies + (first[q + e % local] - before) + place;
    const auto token = static_cast<std::int32_t>(static_cast<int>(i) / k);
    for (int copy = 0; copy < copies; ++copy, row += rows) {
      position[i * copies + copy] = row;
      order[row] = token;
    }
  }
  __device__ void put_none(std::int64_t i) const {
    for (int copy = 0; copy < copies; ++copy) position[i * copies + copy] = -1;
  }
  __device__ void layout(const int* total, const int* first) const {
    for (int l = threadIdx.x; l <= lanes; l += blockDim.x) {
      segments[l] = first[l * ranks * local] * copies;
    }
    for (int j = threadIdx.x; j < ranks * copies * local; j += blockDim.x) {
      const int rank = j / (copies * local) * lanes + lane;
      counts[j] = total[rank * local + j % local];
    }
  }
};

struct ReceiveTask {
  const std::int32_t* counts = nullptr;
  std::int32_t* expert_offsets = nullptr;
  std::int32_t* index = nullptr;
  std::int32_t* range = nullptr;
  int* memory = nullptr;  // [2 * cells + 1] where shared memory is too small
  FaultRecord* fault = nullptr;
  std::int64_t bound = 0;
  int sources = 0, experts = 0;
};

// put(i, sum of get over [0, i)) for i in [0, n), returns the total. The block runs all of it.
template <class Get, class Put>
__device__ int block_scan(int n, Get get, Put put) {
  __shared__ int warps[kReceiveThreads / kWarp];
  const int thread = threadIdx.x, lane = thread % kWarp;
  const int chunk = (n + kReceiveThreads - 1) / kReceiveThreads;
  const int begin = min(thread * chunk, n), end = min(begin + chunk, n);
  int sum = 0;
  for (int i = begin; i < end; ++i) sum += get(i);
  int through = sum;
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffU, through, step);
    if (lane >= step) through += other;
  }
  if (lane == kWarp - 1) warps[thread / kWarp] = through;
  __syncthreads();
  int before = through - sum, total = 0;
  for (int w = 0; w < kReceiveThreads / kWarp; ++w) {
    before += w < thread / kWarp ? warps[w] : 0;
    total += warps[w];
  }
  for (int i = begin; i < end; ++i) {
    put(i, before);
    before += get(i);
  }
  __syncthreads();
  return total;
}

// The last cell that starts at or before `row`: empty cells end where they start.
__device__ inline int cell_of(const int* start, int cells, int row) {
  int low = 0, high = cells;  // start[low] <= row < start[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (start[middle] <= row ? low : high) = middle;
  }
  return low;
}

__global__ void __launch_bounds__(kReceiveThreads) order_received(ReceiveTask task) {
  extern __shared__ int shared[];
  const int sources = task.sources, experts = task.experts, cells = sources * experts;
  int* start = task.memory != nullptr ? task.memory : shared;  // [cells + 1], expert-major
  int* from = start + cells + 1;                               // [cells]: first row received
  wait_for_previous();
  block_scan(
      cells, [&](int i) { return task.counts[i]; },
      [&](int i, int before) { from[i % experts * sources + i / experts] = before; });
  const int total = block_scan(
      cells, [&](int q) { return task.counts[q % sources * experts + q / sources]; },
      [&](int q, int before) { start[q] = before; });
  if (threadIdx.x == 0) start[cells] = total;
  __syncthreads();
  // Beyond the bound the rows did not all arrive, and an index could lie beyond them: none counts.
  const int rows = total > task.bound ? 0 : total;
  if (blockIdx.x == 0) {
    for (int e = threadIdx.x; e <= experts; e += kReceiveThreads) {
      task.expert_offsets[e] = min(start[e * sources], rows);
    }
    if (threadIdx.x == 0) {
      task.range[0] = 0;
      task.range[1] = rows;
      if (total > rows) report_fault(task.fault, Fault::RowsExceedBound, total, task.bound);
    }
  }
  const int step = static_cast<int>(gridDim.x) * kReceiveThreads;
  for (int i = blockIdx.x * kReceiveThreads + threadIdx.x; i < rows; i += step) {
    const int cell = sources == 1 ? 0 : cell_of(start, cells, i);
    task.index[i] = sources == 1 ? i : from[cell] + i - start[cell];
  }
}

}  // namespace

void pack_order(const Queue& queue, const PackOrder& shape, const PackOrderOperands& operands) {
  const PackedRoutes routes{.experts = operands.expert,
                            .order = operands.order,
                            .position = operands.position,
                            .segments = operands.segments,
                            .counts = operands.counts,
                            .begin = shape.token_begin * shape.k,
                            .end = shape.token_end * shape.k,
                            .k = static_cast<int>(shape.k),
                            .copies = static_cast<int>(shape.copies),
                            .local = static_cast<int>(shape.experts / shape.expert_degree),
                            .lanes = static_cast<int>(shape.lanes),
                            .lane = static_cast<int>(shape.lane),
                            .ranks = static_cast<int>(shape.expert_degree / shape.lanes)};
  rank_stably(queue, routes, shape.tokens * shape.k, static_cast<int>(shape.experts),
              queue.workspace);
}

void receive_order(const Queue& queue, const ReceiveOrder& shape,
                   const ReceiveOrderOperands& operands) {
  const std::int64_t cells = shape.sources * shape.local_experts;
  const std::int64_t bytes = (2 * cells + 1) * 4;
  const bool fits = bytes <= kSharedBytes - 1024;
  ReceiveTask task{.counts = operands.counts,
                   .expert_offsets = operands.expert_offsets,
                   .index = operands.index,
                   .range = operands.range,
                   .fault = queue.fault,
                   .bound = shape.rows.bound,
                   .sources = static_cast<int>(shape.sources),
                   .experts = static_cast<int>(shape.local_experts)};
  if (!fits) {
    expect(bytes <= queue.workspace_bytes, "receive_order", "too many cells for the workspace");
    task.memory = static_cast<int*>(queue.workspace);
  }
  const std::int64_t blocks =
      fits ? std::clamp<std::int64_t>(ceil_div(shape.rows.bound, kReceiveRows), 1, kReceiveBlocks)
           : 1;
  launch_next(queue,
              {.name = "launch receive_order",
               .blocks = blocks,
               .threads = kReceiveThreads,
               .shared_bytes = fits ? static_cast<std::size_t>(bytes) : 0},
              order_received, task);
}

}  // namespace imhotep::kernels::cuda
