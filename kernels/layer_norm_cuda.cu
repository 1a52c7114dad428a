// Forward: a block a row, the row in registers, mean and then deviations as on the CPU.
// Gradient: blocks walk over the rows, each thread keeping its columns of dgain and dbias in
// registers; the next row is loaded before the sums of this one. One barrier a row, because the
// warps' sums go to two places in turn. Blocks leave their columns in the workspace and
// add_partials sums them.

#include "kernels/cuda_columns.cuh"
#include "kernels/layer_norm.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kForwardThreads = 1024;
constexpr int kGradThreads = 512;       // leaves a thread 128 registers for its columns
constexpr int kGradThreadsPerSm = 768;  // as many as their registers allow

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

  __device__ void load(const LayerNormGrad& shape, const LayerNormGradOperands& o,
                       std::int64_t row) {
    mean = static_cast<const float*>(o.mean)[row];
    rstd = static_cast<const float*>(o.rstd)[row];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int column = (static_cast<int>(threadIdx.x) + p * static_cast<int>(blockDim.x)) * kStep;
      if (column >= shape.hidden) continue;
      const std::int64_t at = row * shape.hidden + column;
      dy[p] = load_raw<T, kStep>(static_cast<const T*>(o.dy) + at);
      x[p] = load_raw<T, kStep>(static_cast<const T*>(o.x) + at);
      if (shape.accumulate) dx[p] = load_raw<T, kStep>(static_cast<const T*>(o.dx) + at);
    }
  }
};

// Sums of two numbers over the block, the same at every thread.
__device__ inline float2 block_sum_two(float a, float b, float2* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  a = warp_sum(a);
  b = warp_sum(b);
  if (lane == 0) shared[warp] = make_float2(a, b);
  __syncthreads();
  const float2 mine =
      lane < static_cast<int>(blockDim.x) / kWarp ? shared[lane] : make_float2(0, 0);
  return make_float2(warp_sum(mine.x), warp_sum(mine.y));
}

template <class T, int kStep, int kPacks>
__global__ void __launch_bounds__(kGradThreads)
    grad_rows(LayerNormGrad shape, LayerNormGradOperands o, float* partial) {
  __shared__ float2 shared[2][kWarp];
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
  GradRow<T, kStep, kPacks> next;
  if (blockIdx.x < shape.rows) next.load(shape, o, blockIdx.x);
  int turn = 0;
  for (std::int64_t row = blockIdx.x; row < shape.rows; row += gridDim.x, turn ^= 1) {
    const GradRow<T, kStep, kPacks> now = next;
    if (row + gridDim.x < shape.rows) next.load(shape, o, row + gridDim.x);
    float sum_g = 0, sum_gn = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (first + p * step >= shape.hidden) continue;
      const Lanes<kStep> dy = now.dy[p].lanes(), x = now.x[p].lanes(), by = gain[p].lanes();
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        const float normal = (x.at[i] - now.mean) * now.rstd;
        dgain[p][i] += dy.at[i] * normal;
        dbias[p][i] += dy.at[i];
        sum_g += dy.at[i] * by.at[i];
        sum_gn += dy.at[i] * by.at[i] * normal;
      }
    }
    const float2 sums = block_sum_two(sum_g, sum_gn, shared[turn]);
    const float mean_g = sums.x * inverse, mean_gn = sums.y * inverse;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (first + p * step >= shape.hidden) continue;
      const Lanes<kStep> dy = now.dy[p].lanes(), x = now.x[p].lanes(), by = gain[p].lanes();
      Lanes<kStep> dx;
      if (shape.accumulate) dx = now.dx[p].lanes();
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        const float normal = (x.at[i] - now.mean) * now.rstd;
        const float slope = now.rstd * (dy.at[i] * by.at[i] - mean_g - normal * mean_gn);
        dx.at[i] = shape.accumulate ? dx.at[i] + slope : slope;
      }
      store_lanes<T, kStep>(static_cast<T*>(o.dx) + row * shape.hidden + first + p * step, dx);
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
      const int threads = Form::threads(shape.hidden);
      const std::int64_t fit =
          queue.workspace_bytes / (2 * shape.hidden * static_cast<std::int64_t>(sizeof(float)));
      const std::int64_t most = std::min<std::int64_t>(
          fit, context_of(queue).multiprocessors * std::max(1, kGradThreadsPerSm / threads));
      expect(most > 0, "layer_norm_grad", "the workspace is too small for one row");
      const unsigned blocks = blocks_for(shape.rows, 1, most);
      auto* partial = static_cast<float*>(queue.workspace);
      grad_rows<T, Form::kStep, Form::kPacks>
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
