#pragma once
// The product of few bf16 rows, for the CUDA form of gemm; kernels/few_rows.cuh says how it works.
// Only for the sources of libimhotep_cuda.so.

#include "kernels/gemm.h"
#include "kernels/queue.h"

namespace imhotep::kernels::cuda {

// c = epilogue(a * b^T) where the shape suits: bf16, m <= 16, b [n, k] with k % 8 == 0, no
// accumulation, 16-byte aligned. False: nothing was done. Async.
[[nodiscard]] bool few_rows_gemm(const Queue& queue, const Gemm& shape,
                                 const GemmOperands& operands);

}  // namespace imhotep::kernels::cuda
