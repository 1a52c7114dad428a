// Forward: one access of x, moe and mlp a thread; every thread works out its row's coefficients.
// Gradient: a block a row, which sums <dy, moe - mlp> while it writes d_moe and d_mlp.

#include "kernels/cuda_lanes.cuh"
#include "kernels/residual_mix.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 512;

struct Coefficients {
  float moe, mlp;
};

__device__ inline Coefficients coefficients(const void* logits, std::int64_t row) {
  const float2 a = static_cast<const float2*>(logits)[row];
  const float small = expf(-fabsf(a.x - a.y));
  const float high = 1.0F / (1.0F + small), low = small / (1.0F + small);
  return a.x >= a.y ? Coefficients{high, low} : Coefficients{low, high};
}

template <class T, int kStep>
__global__ void __launch_bounds__(kThreads) mix(ResidualMix shape, ResidualMixOperands o) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kStep;
  if (i >= shape.rows * shape.hidden) return;
  Lanes<kStep> y = load_lanes<T, kStep>(static_cast<const T*>(o.x) + i);
  const Lanes<kStep> moe = load_lanes<T, kStep>(static_cast<const T*>(o.moe) + i);
  const Lanes<kStep> mlp = load_lanes<T, kStep>(static_cast<const T*>(o.mlp) + i);
  const Coefficients c = coefficients(o.logits, i / shape.hidden);
#pragma unroll
  for (int j = 0; j < kStep; ++j) y.at[j] += c.moe * moe.at[j] + c.mlp * mlp.at[j];
  store_lanes<T, kStep>(static_cast<T*>(o.y) + i, y);
}

template <class T, int kStep>
__global__ void __launch_bounds__(kRowThreads)
    mix_grad(std::int64_t hidden, ResidualMixGradOperands o) {
  __shared__ float shared[kWarp];
  const std::int64_t row = blockIdx.x, at = row * hidden;
  const Coefficients c = coefficients(o.logits, row);
  float difference = 0;
  for (std::int64_t i = threadIdx.x * kStep; i < hidden; i += blockDim.x * kStep) {
    const Lanes<kStep> dy = load_lanes<T, kStep>(static_cast<const T*>(o.dy) + at + i);
    Lanes<kStep> moe = load_lanes<T, kStep>(static_cast<const T*>(o.moe) + at + i);
    Lanes<kStep> mlp = load_lanes<T, kStep>(static_cast<const T*>(o.mlp) + at + i);
#pragma unroll
    for (int j = 0; j < kStep; ++j) {
      difference += dy.at[j] * (moe.at[j] - mlp.at[j]);
      moe.at[j] = c.moe * dy.at[j];
      mlp.at[j] = c.mlp * dy.at[j];
    }
    store_lanes<T, kStep>(static_cast<T*>(o.d_moe) + at + i, moe);
    store_lanes<T, kStep>(static_cast<T*>(o.d_mlp) + at + i, mlp);
  }
  difference = block_sum(difference, shared);
  if (threadIdx.x != 0) return;
  const float slope = c.moe * c.mlp * difference;
  static_cast<float2*>(o.d_logits)[row] = make_float2(slope, -slope);
}

}  // namespace

void residual_mix(const Queue& queue, const ResidualMix& shape, const ResidualMixOperands& o) {
  if (shape.rows == 0 || shape.hidden == 0) return;
  by_type(queue, "residual_mix", [&](auto zero) {
    using T = decltype(zero);
    by_step<T>(sixteen(shape.hidden, sizeof(T), {o.x, o.moe, o.mlp, o.y}), [&](auto step) {
      constexpr int kStep = decltype(step)::value;
      const unsigned blocks = blocks_for(shape.rows * shape.hidden, kThreads * kStep, 0x7fffffff);
      mix<T, kStep><<<blocks, kThreads, 0, stream_of(queue)>>>(shape, o);
      IMHOTEP_LAUNCHED("residual_mix");
    });
  });
}

void residual_mix_grad(const Queue& queue, const ResidualMixGrad& shape,
                       const ResidualMixGradOperands& o) {
  if (shape.rows == 0) return;
  by_type(queue, "residual_mix_grad", [&](auto zero) {
    using T = decltype(zero);
    const bool whole = sixteen(shape.hidden, sizeof(T), {o.dy, o.moe, o.mlp, o.d_moe, o.d_mlp});
    by_step<T>(whole, [&](auto step) {
      constexpr int kStep = decltype(step)::value;
      const int threads =
          std::min(kRowThreads, std::max(kWarp, RowForm<kStep, 1>::threads(shape.hidden)));
      mix_grad<T, kStep>
          <<<static_cast<unsigned>(shape.rows), threads, 0, stream_of(queue)>>>(shape.hidden, o);
      IMHOTEP_LAUNCHED("residual_mix_grad");
    });
  });
}

}  // namespace imhotep::kernels::cuda
