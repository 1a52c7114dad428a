#pragma once
// A linear layer of the normalised input, for the few rows of a decode step:
// c = epilogue(norm(x) * b^T). The normalised rows are rounded to the data type, as when they are
// stored between a layer_norm and a gemm. Safe to include from .cu files.

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct NormGemmOperands {
  const void* x = nullptr;                       // data [rows, k]
  const void *gain = nullptr, *shift = nullptr;  // data [k], of the norm
  const void* b = nullptr;                       // data [n, k]
  const void* bias = nullptr;                    // data [n], the epilogues named after it
  void* c = nullptr;                             // out data [rows, n]; none of the other operands
};
// Requires: epilogue None, Bias or BiasGelu; k > 0. CUDA: bf16, at most 128 rows, k % 8 == 0.
void norm_gemm(const Queue& queue, const NormGemm& shape, const NormGemmOperands& operands);

namespace cpu {
template <class T>
void norm_gemm(const NormGemm& shape, const NormGemmOperands& operands);
}  // namespace cpu
namespace cuda {
void norm_gemm(const Queue& queue, const NormGemm& shape, const NormGemmOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
