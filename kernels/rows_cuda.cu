// Rows to experts and back: gather_rows, combine, combine_grad, scatter_sum. Bound by memory.
//
// Thread mapping: a warp takes a row (gather) or a token (the others), a lane 16 bytes at a time,
// several of them in flight before the first is used. The number of rows to gather comes from the
// device: a grid that fills it goes over them with its own size as the step. Rows that are no
// multiple of 16 bytes, or not aligned to them, move by elements. Sums are in fp32, in the order of
// the choices.

#include <algorithm>

#include "kernels/combine.h"
#include "kernels/dispatch.h"
#include "kernels/routing_launch.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kGatherBlocks = 4;  // of a multiprocessor, all resident: 64 to 128 KiB in flight
constexpr int kSumBlocks = 3;     // the same, at most 85 registers a thread
constexpr int kCopyFlight = 8;    // 16-byte pieces a lane: a row of 2048 bf16 elements at once
constexpr int kSumFlight = 4;

template <class T, int kElements>
struct alignas(sizeof(T) * kElements) Piece {
  T value[kElements];
};

template <class... Pointers>
bool aligned(std::int64_t row_bytes, Pointers... pointers) {
  return ((static_cast<std::uintptr_t>(row_bytes) | ... |
           reinterpret_cast<std::uintptr_t>(pointers)) %
          16) == 0;
}
// Calls run(Piece<T, n>{}) with pieces of 16 bytes, or of one element.
template <class T, class Run>
void by_pieces(bool whole, Run run) {
  if (whole) return run(Piece<T, 16 / static_cast<int>(sizeof(T))>{});
  run(Piece<T, 1>{});
}

__device__ inline std::int64_t warp_index() {
  return std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
}

// Rows [base, end) of the full order are present; a null table means all.
struct Window {
  int base = 0, end = 0x7fffffff;

  __device__ explicit Window(const std::int32_t* range) {
    if (range != nullptr) base = range[0], end = range[1];
  }
  __device__ bool holds(int position) const { return position >= base && position < end; }
};

// ---- gather

struct GatherTask {
  const void* in = nullptr;
  const std::int32_t* index = nullptr;
  const std::int32_t* range = nullptr;
  void* out = nullptr;
  FaultRecord* fault = nullptr;
  std::int64_t bound = 0;
  int units = 0;  // of a row
  bool inverse = false;
};

template <class Unit>
__global__ void __launch_bounds__(kThreads) move_rows(GatherTask task) {
  wait_for_previous();
  const std::int64_t begin = task.range[0];
  std::int64_t rows = task.range[1] - begin;
  if (rows > task.bound) {
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      report_fault(task.fault, Fault::RowsExceedBound, rows, task.bound);
    }
    rows = task.bound;
  }
  const int lane = threadIdx.x % kWarp, units = task.units;
  const std::int64_t step = std::int64_t{gridDim.x} * kWarps;
  for (std::int64_t row = warp_index(); row < rows; row += step) {
    const std::int64_t near = begin + row, far = task.index[near];
    const Unit* from = static_cast<const Unit*>(task.in) + (task.inverse ? near : far) * units;
    Unit* to = static_cast<Unit*>(task.out) + (task.inverse ? far : near) * units;
    for (int base = lane; base < units; base += kWarp * kCopyFlight) {
      Unit unit[kCopyFlight];
#pragma unroll
      for (int j = 0; j < kCopyFlight; ++j) {
        if (base + j * kWarp < units) unit[j] = from[base + j * kWarp];
      }
#pragma unroll
      for (int j = 0; j < kCopyFlight; ++j) {
        if (base + j * kWarp < units) to[base + j * kWarp] = unit[j];
      }
    }
  }
}

// ---- sums of rows: combine and scatter_sum

struct SumTask {
  const void* rows = nullptr;
  const std::int32_t* range = nullptr;
  const std::int32_t* position = nullptr;  // [tokens, k, copies]
  const float* weight = nullptr;           // [tokens, k]; null: 1
  void* out = nullptr;                     // [tokens, hidden]
  std::int64_t tokens = 0;
  int k = 1, copies = 1, pieces = 0;
  bool accumulate = false;
};

// Beyond the row the last piece comes again: no branch between loads.
template <class T, int kElements>
__device__ void load_pieces(const Piece<T, kElements>* row, int base, int pieces,
                            Piece<T, kElements> (&piece)[kSumFlight]) {
#pragma unroll
  for (int j = 0; j < kSumFlight; ++j) piece[j] = row[min(base + j * kWarp, pieces - 1)];
}

template <class T, int kElements>
__global__ void __launch_bounds__(kThreads, kSumBlocks) sum_rows(SumTask task) {
  using Part = Piece<T, kElements>;
  wait_for_previous();
  const Window window(task.range);
  const int lane = threadIdx.x % kWarp, pieces = task.pieces, routes = task.k * task.copies;
  const std::int64_t t = warp_index();
  if (t >= task.tokens) return;
  Part* out = static_cast<Part*>(task.out) + t * pieces;
  for (int base = lane; base < pieces; base += kWarp * kSumFlight) {
    float sum[kSumFlight][kElements] = {};
    bool changed = !task.accumulate;
    if (task.accumulate) {
      Part part[kSumFlight];
      load_pieces<T, kElements>(out, base, pieces, part);
#pragma unroll
      for (int j = 0; j < kSumFlight; ++j) {
#pragma unroll
        for (int i = 0; i < kElements; ++i) sum[j][i] = to_float(part[j].value[i]);
      }
    }
    for (int r = 0; r < routes; ++r) {
      const int position = task.position[t * routes + r];
      if (!window.holds(position)) continue;
      changed = true;
      const float weight =
          task.weight != nullptr ? task.weight[t * task.k + r / task.copies] : 1.0F;
      Part part[kSumFlight];
      load_pieces(static_cast<const Part*>(task.rows) +
                      static_cast<std::int64_t>(position - window.base) * pieces,
                  base, pieces, part);
#pragma unroll
      for (int j = 0; j < kSumFlight; ++j) {
#pragma unroll
        for (int i = 0; i < kElements; ++i) sum[j][i] += weight * to_float(part[j].value[i]);
      }
    }
    if (!changed) continue;
#pragma unroll
    for (int j = 0; j < kSumFlight; ++j) {
      Part part;
#pragma unroll
      for (int i = 0; i < kElements; ++i) part.value[i] = from_float<T>(sum[j][i]);
      if (base + j * kWarp < pieces) out[base + j * kWarp] = part;
    }
  }
}

// ---- the gradient of combine

struct CombineGradTask {
  const void* dy = nullptr;
  const void* rows = nullptr;
  const std::int32_t* range = nullptr;
  const std::int32_t* position = nullptr;
  const float* weight = nullptr;
  const std::int32_t* d_range = nullptr;
  void* d_rows = nullptr;
  float* d_weight = nullptr;
  std::int64_t tokens = 0;
  int k = 1, copies = 1, pieces = 0;
};

// d_row = weight * dy (null: not held here); returns this lane's share of <dy, row> (null: 0).
template <class T, int kElements>
__device__ float scale_and_dot(const Piece<T, kElements>* dy, const Piece<T, kElements>* row,
                               Piece<T, kElements>* d_row, float weight, int pieces) {
  float dot = 0;
  for (int base = threadIdx.x % kWarp; base < pieces; base += kWarp * kSumFlight) {
    Piece<T, kElements> gradient[kSumFlight], value[kSumFlight];
    load_pieces(dy, base, pieces, gradient);
    load_pieces(row != nullptr ? row : dy, base, pieces, value);
#pragma unroll
    for (int j = 0; j < kSumFlight; ++j) {
      float part = 0;
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        const float d = to_float(gradient[j].value[i]);
        part += d * to_float(value[j].value[i]);
        gradient[j].value[i] = from_float<T>(weight * d);
      }
      const bool inside = base + j * kWarp < pieces;
      if (inside && row != nullptr) dot += part;
      if (inside && d_row != nullptr) d_row[base + j * kWarp] = gradient[j];
    }
  }
  return dot;
}

template <class T, int kElements>
__global__ void __launch_bounds__(kThreads, kSumBlocks) grad_of_combine(CombineGradTask task) {
  using Part = Piece<T, kElements>;
  wait_for_previous();
  const Window window(task.range), d_window(task.d_range);
  const std::int64_t pieces = task.pieces;
  const std::int64_t t = warp_index();
  if (t >= task.tokens) return;
  const Part* dy = static_cast<const Part*>(task.dy) + t * pieces;
  for (std::int64_t route = t * task.k; route < (t + 1) * task.k; ++route) {
    const float weight = task.weight[route];
    float dot = 0;
    for (int copy = 0; copy < task.copies; ++copy) {
      const int position = task.position[route * task.copies + copy];
      const bool held = window.holds(position), d_held = d_window.holds(position);
      if (!held && !d_held) continue;
      const auto* row = static_cast<const Part*>(task.rows) + (position - window.base) * pieces;
      auto* d_row = static_cast<Part*>(task.d_rows) + (position - d_window.base) * pieces;
      dot += scale_and_dot<T, kElements>(dy, held ? row : nullptr, d_held ? d_row : nullptr, weight,
                                         task.pieces);
    }
    dot = warp_sum(dot);
    if (threadIdx.x % kWarp == 0) task.d_weight[route] = dot;
  }
}

template <class T>
void sum_by_pieces(const Queue& queue, SumTask task, std::int64_t hidden) {
  const bool whole = aligned(hidden * static_cast<std::int64_t>(sizeof(T)), task.rows, task.out);
  by_pieces<T>(whole, [&]<int kElements>(Piece<T, kElements>) {
    task.pieces = static_cast<int>(hidden / kElements);
    launch_next(
        queue,
        {.name = "launch row sums", .blocks = ceil_div(task.tokens, kWarps), .threads = kThreads},
        sum_rows<T, kElements>, task);
  });
}

}  // namespace

void gather_rows(const Queue& queue, const GatherRows& shape, const GatherRowsOperands& operands) {
  if (shape.rows.bound == 0 || shape.hidden == 0) return;
  const std::int64_t bytes = shape.hidden * bytes_of(queue.dtype);
  GatherTask task{.in = operands.in,
                  .index = operands.index,
                  .range = operands.range,
                  .out = operands.out,
                  .fault = queue.fault,
                  .bound = shape.rows.bound,
                  .inverse = shape.inverse};
  const std::int64_t most = std::int64_t{kGatherBlocks} * context_of(queue).multiprocessors;
  const Grid grid{.name = "launch gather_rows",
                  .blocks = std::min(ceil_div(shape.rows.bound, kWarps), most),
                  .threads = kThreads};
  by_type(queue, "gather_rows", [&](auto zero) {
    using T = decltype(zero);
    by_pieces<T>(aligned(bytes, operands.in, operands.out), [&](auto unit) {
      task.units = static_cast<int>(bytes / static_cast<std::int64_t>(sizeof unit));
      launch_next(queue, grid, move_rows<decltype(unit)>, task);
    });
  });
}

void combine(const Queue& queue, const Combine& shape, const CombineOperands& operands) {
  if (shape.tokens == 0 || shape.hidden == 0) return;
  const SumTask task{.rows = operands.rows,
                     .range = operands.range,
                     .position = operands.position,
                     .weight = static_cast<const float*>(operands.weight),
                     .out = operands.y,
                     .tokens = shape.tokens,
                     .k = static_cast<int>(shape.k),
                     .copies = static_cast<int>(shape.copies)};
  by_type(queue, "combine",
          [&](auto zero) { sum_by_pieces<decltype(zero)>(queue, task, shape.hidden); });
}

void scatter_sum(const Queue& queue, const ScatterSum& shape, const ScatterSumOperands& operands) {
  if (shape.tokens == 0 || shape.hidden == 0) return;
  const SumTask task{.rows = operands.rows,
                     .range = operands.range,
                     .position = operands.position,
                     .out = operands.dn,
                     .tokens = shape.tokens,
                     .k = static_cast<int>(shape.k),
                     .copies = static_cast<int>(shape.copies),
                     .accumulate = shape.accumulate};
  by_type(queue, "scatter_sum",
          [&](auto zero) { sum_by_pieces<decltype(zero)>(queue, task, shape.hidden); });
}

void combine_grad(const Queue& queue, const CombineGrad& shape,
                  const CombineGradOperands& operands) {
  if (shape.tokens == 0) return;
  CombineGradTask task{.dy = operands.dy,
                       .rows = operands.rows,
                       .range = operands.range,
                       .position = operands.position,
                       .weight = static_cast<const float*>(operands.weight),
                       .d_range = operands.d_range,
                       .d_rows = operands.d_rows,
                       .d_weight = static_cast<float*>(operands.d_weight),
                       .tokens = shape.tokens,
                       .k = static_cast<int>(shape.k),
                       .copies = static_cast<int>(shape.copies)};
  const bool whole =
      aligned(shape.hidden * bytes_of(queue.dtype), operands.dy, operands.rows, operands.d_rows);
  const Grid grid{
      .name = "launch combine_grad", .blocks = ceil_div(shape.tokens, kWarps), .threads = kThreads};
  by_type(queue, "combine_grad", [&](auto zero) {
    using T = decltype(zero);
    by_pieces<T>(whole, [&]<int kElements>(Piece<T, kElements>) {
      task.pieces = static_cast<int>(shape.hidden / kElements);
      launch_next(queue, grid, grad_of_combine<T, kElements>, task);
    });
  });
}

}  // namespace imhotep::kernels::cuda
