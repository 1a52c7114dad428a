#pragma once
// One GEMM an expert: the rows of expert e are [expert_offsets[e], expert_offsets[e + 1]) of the
// row operands, the weights of the local experts lie one after the other. Experts without rows
// cost nothing and are not touched, but for a GradWeight that does not accumulate: it writes zeros.
// All matrices row-major; n and k as in the forward pass.
//   Forward     out[r, n] = in[r, k] * weight[e]^T (+ bias[e]) (gelu)
//   GradInput   out[r, k] = in[r, n] * weight[e]
//   GradWeight  d_weight[e][n, k] (+)= in[r, n]^T * activation[r, k]
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct GroupedGemmOperands {
  const std::int32_t* expert_offsets = nullptr;  // [experts + 1]
  const void* in = nullptr;          // data: Forward [rows, k]; GradInput, GradWeight: d [rows, n]
  const void* activation = nullptr;  // data [rows, k], GradWeight only
  const void* weight = nullptr;      // data [experts, n, k], Forward and GradInput
  const void* bias = nullptr;        // data [experts, n]; null with Bias: a slicing
                                     // peer that leaves the bias to another
  void* pre = nullptr;               // data: BiasGelu writes what it activates, [rows, n] (null:
                                     // not kept); GeluGrad reads it, [rows, k]
  void* out = nullptr;               // out data: Forward [rows, n]; GradInput [rows, k]
  void* d_weight = nullptr;          // in/out data [experts, n, k], GradWeight only
};

// Requires: epilogue None, Bias or BiasGelu (tanh GELU) in Forward, None or GeluGrad (out times
// gelu'(pre)) in GradInput, None in GradWeight.
// Throws: Failed when the rows exceed rows.bound.
void grouped_gemm(const Queue& queue, const GroupedGemm& shape,
                  const GroupedGemmOperands& operands);

// out[e] += sum of the rows of expert e.
struct GroupedColumnSumOperands {
  const std::int32_t* expert_offsets = nullptr;  // [experts + 1]
  const void* in = nullptr;                      // data [rows, cols]
  void* out = nullptr;                           // in/out data [experts, cols]
};

void grouped_column_sum(const Queue& queue, const GroupedColumnSum& shape,
                        const GroupedColumnSumOperands& operands);

namespace cpu {
template <class T>
void grouped_gemm(const GroupedGemm& shape, const GroupedGemmOperands& operands);
template <class T>
void grouped_column_sum(const GroupedColumnSum& shape, const GroupedColumnSumOperands& operands);
}  // namespace cpu

namespace cuda {
void grouped_gemm(const Queue& queue, const GroupedGemm& shape,
                  const GroupedGemmOperands& operands);
void grouped_column_sum(const Queue& queue, const GroupedColumnSum& shape,
                        const GroupedColumnSumOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
