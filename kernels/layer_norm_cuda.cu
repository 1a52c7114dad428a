// Forward: a block a row, the row in registers, mean and then deviations as on the CPU.
// Gradient: blocks walk over the rows, kRows at once, each thread keeping its columns of dgain and
// dbias in registers; the next rows are loaded before the sums of these. One barrier a turn,
// because the warps' sums go to two places in turn. Blocks leave their columns in the workspace and
// add_partials sums them.

#include "kernels/cuda_columns.cuh"
#include "kernels/layer_norm.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kForwardThreads = 1024;
constexpr int kGradThreads = 512;       // leaves a thread 128 registers for its columns
constexpr int kGradThreadsPerSm = 512;  // as many as their registers allow: one wave of blocks

template <class T, int kStep, int kPacks>
__global__ void __launch_bounds__(kForwardThreads)
    norm_rows(std::int64_t hidden, LayerNormOperands o) {
  __shared__ float shared[2][kWarp];
  const std::int64_t row = blockIdx.x, at = row * hidden;
  const T* x = static_cast<const T*>(o.x) + at;
  const int step = static_cast<int>(blockDim.x) * kStep;
  const int first = static_cast<int>(threadIdx.x) * kStep;
  Lanes<kStep> held[kPacks];
  float sum = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int column = first + p * step;
    if (column < hidden) held[p] = load_lanes<T, kStep>(x + column);
#pragma unroll
    for (int i = 0; i < kStep; ++i) sum += column < hidden ? held[p].at[i] : 0.0F;
  }
  const float inverse = 1.0F / static_cast<float>(hidden);
  const float mean = block_sum(sum, shared[0]) * inverse;
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      const float deviation = held[p].at[i] - mean;
      squares += first + p * step < hidden ? deviation * deviation : 0.0F;
    }
  }
  const float variance = block_sum(squares, shared[1]) * inverse;
  const float rstd = 1.0F / sqrtf(variance + static_cast<float>(kLayerNormEpsilon));
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int column = first + p * step;
    if (column >= hidden) continue;
    const Lanes<kStep> gain = load_lanes<T, kStep>(static_cast<const T*>(o.gain) + column);
    const Lanes<kStep> bias = load_lanes<T, kStep>(static_cast<const T*>(o.bias) + column);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      held[p].at[i] = (held[p].at[i] - mean) * rstd * gain.at[i] + bias.at[i];
    }
    store_lanes<T, kStep>(static_cast<T*>(o.y) + at + column, held[p]);
  }
  if (threadIdx.x == 0) {
    static_cast<float*>(o.mean)[row] = mean;
    static_cast<float*>(o.rstd)[row] = rstd;
  }
}

// What a thread reads of one row.
template <class T, int kStep, int kPacks>
struct GradRow {
  Raw<T, kStep> dy[kPacks], x[kPacks], dx[kPacks];
  float mean, rstd;

  __device__ static int column_of(int pack) {
    return (static_cast<int>(threadIdx.x) + pack * static_cast<int>(blockDim.x)) * kStep;
  }

  __device__ void load(const LayerNormGrad& shape, const LayerNormGradOperands& o,
                       std::int64_t row) {
    mean = static_cast<const float*>(o.mean)[row];
    rstd = static_cast<const float*>(o.rstd)[row];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int column = column_of(p);
      if (column >= shape.hidden) continue;
      const std::int64_t at = row * shape.hidden + column;
      dy[p] = load_raw<T, kStep>(static_cast<const T*>(o.dy) + at);
      x[p] = load_raw<T, kStep>(static_cast<const T*>(o.x) + at);
      if (shape.accumulate) dx[p] = load_raw<T, kStep>(static_cast<const T*>(o.dx) + at);
    }
  }

  // Adds this row to the sums: of its columns, and of g = dy gain and g times the normed input.
  __device__ void add(const LayerNormGrad& shape, const Raw<T, kStep> (&gain)[kPacks],
                      float (&dgain)[kPacks][kStep], float (&dbias)[kPacks][kStep],
                      float2& sums) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (column_of(p) >= shape.hidden) continue;
      const Lanes<kStep> d = dy[p].lanes(), from = x[p].lanes(), by = gain[p].lanes();
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        const float normal = (from.at[i] - mean) * rstd;
        dgain[p][i] += d.at[i] * normal;
        dbias[p][i] += d.at[i];
        sums.x += d.at[i] * by.at[i];
        sums.y += d.at[i] * by.at[i] * normal;
      }
    }
  }

  // means: of g and of g times the normed input.
  __device__ void finish(const LayerNormGrad& shape, const Raw<T, kStep> (&gain)[kPacks],
                         float2 means, T* out, std::int64_t row) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int column = column_of(p);
      if (column >= shape.hidden) continue;
      const Lanes<kStep> d = dy[p].lanes(), from = x[p].lanes(), by = gain[p].lanes();
      Lanes<kStep> result;
      if (shape.accumulate) result = dx[p].lanes();
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        const float normal = (from.at[i] - mean) * rstd;
        const float slope = rstd * (d.at[i] * by.at[i] - means.x - normal * means.y);
        result.at[i] = shape.accumulate ? result.at[i] + slope : slope;
      }
      store_lanes<T, kStep>(out + row * shape.hidden + column, result);
    }
  }
};

// Sums of pairs of numbers over the block, the same at every thread.
template <int kRows>
__device__ inline void block_sums(float2 (&sums)[kRows], float2 (*shared)[kRows]) {
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int r = 0; r < kRows; ++r) sums[r] = {warp_sum(sums[r].x), warp_sum(sums[r].y)};
  if (threadIdx.x % kWarp == 0) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) shared[warp][r] = sums[r];
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRows; ++r) sums[r] = {0, 0};
#pragma unroll 4
  for (int i = 0; i < warps; ++i) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float2 part = shared[i][r];
      sums[r] = {sums[r].x + part.x, sums[r].y + part.y};
    }
  }
}

template <class T, int kStep, int kPacks, int kRows>
__global__ void __launch_bounds__(kGradThreads)
    grad_rows(LayerNormGrad shape, LayerNormGradOperands o, float* partial) {
  __shared__ float2 shared[2][kGradThreads / kWarp][kRows];
  const int step = static_cast<int>(blockDim.x) * kStep;
  const int first = static_cast<int>(threadIdx.x) * kStep;
  const float inverse = 1.0F / static_cast<float>(shape.hidden);
  Raw<T, kStep> gain[kPacks];
  float dgain[kPacks][kStep] = {}, dbias[kPacks][kStep] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (first + p * step < shape.hidden) {
      gain[p] = load_raw<T, kStep>(static_cast<const T*>(o.gain) + first + p * step);
    }
  }
  using Row = GradRow<T, kStep, kPacks>;
  Row next[kRows];
  const std::int64_t rows_a_turn = static_cast<std::int64_t>(gridDim.x) * kRows;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kRows;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (begin + r < shape.rows) next[r].load(shape, o, begin + r);
  }
  int turn = 0;
  for (std::int64_t row = begin; row < shape.rows; row += rows_a_turn, turn ^= 1) {
    Row now[kRows];
    float2 sums[kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      now[r] = next[r];
      if (row + rows_a_turn + r < shape.rows) next[r].load(shape, o, row + rows_a_turn + r);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (row + r < shape.rows) now[r].add(shape, gain, dgain, dbias, sums[r]);
    }
    block_sums<kRows>(sums, shared[turn]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float2 means{sums[r].x * inverse, sums[r].y * inverse};
      if (row + r < shape.rows) now[r].finish(shape, gain, means, static_cast<T*>(o.dx), row + r);
    }
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      const std::int64_t column = first + p * step + i;
      if (column >= shape.hidden) continue;
      partial[blockIdx.x * shape.hidden + column] = dgain[p][i];
      partial[(gridDim.x + blockIdx.x) * shape.hidden + column] = dbias[p][i];
    }
  }
}

}  // namespace

void layer_norm(const Queue& queue, const LayerNorm& shape, const LayerNormOperands& o) {
  if (shape.rows == 0) return;
  by_type(queue, "layer_norm", [&](auto zero) {
    using T = decltype(zero);
    const bool whole = sixteen(shape.hidden, sizeof(T), {o.x, o.gain, o.bias, o.y});
    by_row<T, kForwardThreads>("layer_norm", shape.hidden, whole, [&](auto form) {
      using Form = decltype(form);
      norm_rows<T, Form::kStep, Form::kPacks>
          <<<static_cast<unsigned>(shape.rows), Form::threads(shape.hidden), 0, stream_of(queue)>>>(
              shape.hidden, o);
      IMHOTEP_LAUNCHED("layer_norm");
    });
  });
}

void layer_norm_grad(const Queue& queue, const LayerNormGrad& shape,
                     const LayerNormGradOperands& o) {
  if (shape.rows == 0) return;
  by_type(queue, "layer_norm_grad", [&](auto zero) {
    using T = decltype(zero);
    const bool whole = sixteen(shape.hidden, sizeof(T), {o.dy, o.x, o.gain, o.dx});
    by_row<T, kGradThreads>("layer_norm_grad", shape.hidden, whole, [&](auto form) {
      using Form = decltype(form);
      constexpr int kRows = Form::kPacks == 1 ? 2 : 1;  // more would not fit into registers
      const int threads = Form::threads(shape.hidden);
      const std::int64_t fit =
          queue.workspace_bytes / (2 * shape.hidden * static_cast<std::int64_t>(sizeof(float)));
      const std::int64_t most = std::min<std::int64_t>(
          fit, context_of(queue).multiprocessors * std::max(1, kGradThreadsPerSm / threads));
      expect(most > 0, "layer_norm_grad", "the workspace is too small for one row");
      const unsigned blocks = blocks_for(shape.rows, kRows, most);
      auto* partial = static_cast<float*>(queue.workspace);
      grad_rows<T, Form::kStep, Form::kPacks, kRows>
          <<<blocks, threads, 0, stream_of(queue)>>>(shape, o, partial);
      IMHOTEP_LAUNCHED("layer_norm_grad");
      launch_add_partials<T>(queue,
                             {.partial = partial,
                              .count = static_cast<int>(blocks),
                              .columns = shape.hidden,
                              .out = {static_cast<T*>(o.dgain), static_cast<T*>(o.dbias)}},
                             2);
    });
  });
}

}  // namespace imhotep::kernels::cuda
