#pragma once
// What the kernels of libimhotep_cuda.so share: choice of the element type, 16-byte accesses,
// sums over a warp and a block, faults.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda_check.h"
#include "kernels/cuda_context.h"
#include "kernels/queue.h"

namespace imhotep::kernels::cuda {

using Bf16 = __nv_bfloat16;
inline constexpr int kWarp = 32;

// Calls run(float{}) or run(Bf16{}), as the queue's type says.
template <class Run>
void by_type(const Queue& queue, const char* family, Run run) {
  if (queue.dtype == Dtype::F32) return run(float{});
  if (queue.dtype == Dtype::Bf16) return run(Bf16{});
  expect(false, family, "CUDA kernels take fp32 and bf16");
}

[[nodiscard]] constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(Bf16 x) { return __bfloat162float(x); }
template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline Bf16 from_float<Bf16>(float x) {
  return __float2bfloat16(x);
}

// 16 bytes of T at once. Requires: 16-byte aligned address.
template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(T));
  T value[kSize];
};
template <class T>
__device__ inline Pack<T> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T>*>(from);
}
template <class T>
__device__ inline void store_pack(T* to, const Pack<T>& pack) {
  *reinterpret_cast<Pack<T>*>(to) = pack;
}

__device__ inline float warp_sum(float x) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffU, x, lanes);
  return x;
}
__device__ inline double warp_sum(double x) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffU, x, lanes);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, lanes));
  }
  return x;
}

// Sum over a block, the same at every thread. `shared` holds one value a warp; the block must not
// use it again before its next barrier.
template <class T>
__device__ T block_sum(T x, T* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = (static_cast<int>(blockDim.x) + kWarp - 1) / kWarp;
  x = warp_sum(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < warps ? shared[lane] : T{0};
  return warp_sum(x);
}

// tanh-GELU and its derivative, as the CPU kernels compute them.
__device__ inline float gelu(float x) {
  const float inner = 0.7978845608028654F * (x + 0.044715F * x * x * x);
  return 0.5F * x * (1.0F + tanhf(inner));
}
__device__ inline float gelu_slope(float x) {
  const float inner = 0.7978845608028654F * (x + 0.044715F * x * x * x);
  const float t = tanhf(inner);
  const float slope = 0.7978845608028654F * (1.0F + 3.0F * 0.044715F * x * x);
  return 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t * t) * slope;
}

// Keeps the first fault of a run.
__device__ inline void report_fault(FaultRecord* record, Fault fault, std::int64_t a,
                                    std::int64_t b) {
  if (record == nullptr) return;
  const auto old = atomicCAS(reinterpret_cast<int*>(&record->fault), static_cast<int>(Fault::None),
                             static_cast<int>(fault));
  if (old != static_cast<int>(Fault::None)) return;
  record->values[0] = static_cast<std::int32_t>(a);
  record->values[1] = static_cast<std::int32_t>(b);
}

}  // namespace imhotep::kernels::cuda
