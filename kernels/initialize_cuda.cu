// One element a thread, in fp64 as on the CPU; the two devices' log and cos may differ in the last
// bit of fp64, which the rounding to fp32 hides nearly always.

#include "core/base/random.h"
#include "kernels/cuda_common.cuh"
#include "kernels/initialize.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// core/base/random.h normal().
__device__ double draw(std::uint64_t seed, std::uint64_t key, std::uint64_t element) {
  const std::uint64_t bits = hash(seed, key, element);
  const double radius = static_cast<double>((bits >> 11) + 1) * 0x1p-53;
  const double angle = static_cast<double>(mix64(bits) >> 11) * 0x1p-53;
  return sqrt(-2.0 * log(radius)) * cos(6.283185307179586 * angle);
}

template <class T>
__global__ void __launch_bounds__(kThreads) fill_normal(Initialize shape, T* out) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.count) return;
  const auto element = static_cast<std::uint64_t>(shape.first + i);
  const double drawn = shape.deviation > 0 ? draw(shape.seed, shape.key, element) : 0.0;
  out[i] = from_float<T>(static_cast<float>(shape.constant + shape.deviation * drawn));
}

}  // namespace

void initialize(const Queue& queue, const Initialize& shape, const InitializeOperands& o) {
  if (shape.count == 0) return;
  expect(ceil_div(shape.count, kThreads) < (std::int64_t{1} << 31), "initialize",
         "more elements than one launch takes");
  by_type(queue, "initialize", [&](auto zero) {
    using T = decltype(zero);
    fill_normal<T>
        <<<static_cast<unsigned>(ceil_div(shape.count, kThreads)), kThreads, 0, stream_of(queue)>>>(
            shape, static_cast<T*>(o.out));
    IMHOTEP_LAUNCHED("initialize");
  });
}

}  // namespace imhotep::kernels::cuda
