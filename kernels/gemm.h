#pragma once
// Matrix product with the usual epilogues of a linear layer. All matrices row-major, contiguous.
// Safe to include from .cu files.

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// c = op(a) op(b) (+ c if shape.accumulate), then the epilogue. With shape.wide, c is wide.
struct GemmOperands {
  const void* a = nullptr;       // data or wide [m, k]; [k, m] with transpose_a
  const void* b = nullptr;       // data or wide [k, n]; [n, k] with transpose_b
  const void* bias = nullptr;    // type of b [n], the epilogues named after it
  const void* addend = nullptr;  // data [m, n], BiasResidual
  void* pre = nullptr;           // data [m, n]: BiasGelu writes what it activates (null: not
                                 // kept), GeluGrad reads it
  void* c = nullptr;             // in/out data or wide [m, n]; none of the other operands
  void* bias_grad = nullptr;     // in/out data [m], BiasGrad; added to if shape.accumulate
};
// Requires: no accumulation with an epilogue but BiasGrad; BiasGrad: transpose_a, nothing wide;
// m, n and k below 2^31.
// On a bf16 queue of a GPU, a wide operand goes with the other only as the router has them: forward
// (b, c wide; b transposed), weight gradient (a, c wide; a transposed), input gradient (a, b wide).
void gemm(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

namespace cpu {
template <class T>
void gemm(const Gemm& shape, const GemmOperands& operands);
}  // namespace cpu

namespace cuda {
void gemm(const Queue& queue, const Gemm& shape, const GemmOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
