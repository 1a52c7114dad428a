// Normalised few rows times a weight matrix: few_rows_gemm.cuh.

#include "kernels/few_rows_gemm.cuh"
#include "kernels/norm_gemm.h"

namespace imhotep::kernels::cuda {

void norm_gemm(const Queue& queue, const NormGemm& s, const NormGemmOperands& o) {
  expect(queue.dtype == Dtype::Bf16, "norm_gemm", "CUDA takes bf16");
  run_few_rows(queue, {.x = static_cast<const Bf16*>(o.x),
                       .gain = static_cast<const Bf16*>(o.gain),
                       .shift = static_cast<const Bf16*>(o.shift),
                       .w = static_cast<const Bf16*>(o.b),
                       .bias = static_cast<const Bf16*>(o.bias),
                       .c = static_cast<Bf16*>(o.c),
                       .rows = static_cast<int>(s.rows),
                       .n = static_cast<int>(s.n),
                       .k = static_cast<int>(s.k),
                       .epilogue = s.epilogue});
}

}  // namespace imhotep::kernels::cuda
