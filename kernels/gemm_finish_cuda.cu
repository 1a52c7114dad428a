// One element a thread: the epilogues of fp32 products and of sizes that cuBLASLt does not fuse.

#include "kernels/cuda_common.cuh"
#include "kernels/elementwise.h"
#include "kernels/gemm_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// C: type of c, T: of the rest.
template <class T, class C>
__global__ void __launch_bounds__(kThreads) finish(Gemm shape, GemmOperands o) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.m * shape.n) return;
  C* c = static_cast<C*>(o.c) + i;
  float x = to_float(*c);
  if (shape.epilogue == Epilogue::GeluGrad) {
    *c = from_float<C>(x * gelu_slope(to_float(static_cast<const T*>(o.pre)[i])));
    return;
  }
  x += to_float(static_cast<const T*>(o.bias)[i % shape.n]);
  if (shape.epilogue == Epilogue::BiasResidual) {
    x += to_float(static_cast<const T*>(o.addend)[i]);
  } else if (shape.epilogue == Epilogue::BiasGelu) {
    if (o.pre != nullptr) static_cast<T*>(o.pre)[i] = from_float<T>(x);
    x = gelu(x);
  }
  *c = from_float<C>(x);
}

}  // namespace

void finish_product(const Queue& queue, const Gemm& shape, const GemmOperands& o) {
  if (shape.epilogue == Epilogue::None) return;
  if (shape.epilogue == Epilogue::BiasGrad) {
    return cuda::column_sum(queue,
                            {.rows = shape.k, .cols = shape.m, .accumulate = shape.accumulate},
                            {.x = o.a, .out = o.bias_grad});
  }
  const std::int64_t blocks = ceil_div(shape.m * shape.n, kThreads);
  expect(blocks < (std::int64_t{1} << 31), "gemm", "c has more elements than one launch takes");
  by_type(queue, "gemm", [&](auto zero) {
    using T = decltype(zero);
    if (shape.wide) {
      finish<T, float><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(queue)>>>(shape, o);
    } else {
      finish<T, T><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(queue)>>>(shape, o);
    }
    IMHOTEP_LAUNCHED("gemm finish");
  });
}

}  // namespace imhotep::kernels::cuda
