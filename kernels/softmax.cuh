#pragma once
// A maximum and the sum of exponentials relative to it, kept together while a row is read once.

#include "kernels/cuda_lanes.cuh"

namespace imhotep::kernels::cuda {

// e^x as exactly as the row's type deserves: bf16 logits have 8 bits.
template <class T>
__device__ inline float exponential(float x) {
  return sizeof(T) == 4 ? expf(x) : __expf(x);
}

__device__ inline std::int64_t valid_columns(std::int64_t valid, std::int64_t cols) {
  return valid < 0 ? 0 : valid < cols ? valid : cols;
}

// Elements [i, i + kStep) of a row; -infinity from `valid` on.
template <int kStep>
__device__ inline Lanes<kStep> masked(Lanes<kStep> x, std::int64_t i, std::int64_t valid) {
  if (i + kStep > valid) {
#pragma unroll
    for (int j = 0; j < kStep; ++j) x.at[j] = i + j < valid ? x.at[j] : -INFINITY;
  }
  return x;
}
template <class T, int kStep>
__device__ inline Lanes<kStep> masked(const T* row, std::int64_t i, std::int64_t valid) {
  return masked(load_lanes<T, kStep>(row + i), i, valid);
}

struct OnlineSum {
  float high = -INFINITY, sum = 0;  // sum of e^(inverse_tau (x - high))

  template <class T, int kStep>
  __device__ void add(const Lanes<kStep>& x, float inverse_tau = 1) {
    float most = x.at[0];
#pragma unroll
    for (int j = 1; j < kStep; ++j) most = fmaxf(most, x.at[j]);
    if (most > high) {
      sum *= exponential<T>((high - most) * inverse_tau);
      high = most;
    }
    if (high == -INFINITY) return;
#pragma unroll
    for (int j = 0; j < kStep; ++j) sum += exponential<T>((x.at[j] - high) * inverse_tau);
  }
  // The sum relative to a higher maximum.
  template <class T>
  [[nodiscard]] __device__ float relative_to(float other, float inverse_tau = 1) const {
    return high == -INFINITY ? 0.0F : sum * exponential<T>((high - other) * inverse_tau);
  }
};

// Maximum over a block, the same at every thread; `shared` as for block_sum.
__device__ inline float block_max(float x, float* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  x = warp_max(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < static_cast<int>(blockDim.x) / kWarp ? shared[lane] : -INFINITY;
  return warp_max(x);
}

template <class T>
__device__ OnlineSum block_join(const OnlineSum& mine, float* for_high, float* for_sum,
                                float inverse_tau = 1) {
  OnlineSum all;
  all.high = block_max(mine.high, for_high);
  all.sum = block_sum(mine.relative_to<T>(all.high, inverse_tau), for_sum);
  return all;
}

}  // namespace imhotep::kernels::cuda
