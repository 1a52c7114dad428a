#pragma once
// What the CUDA matrix product is made of, beside cuBLASLt. Internal to libimhotep_cuda.so.

#include "kernels/gemm.h"

namespace imhotep::kernels::cuda {

// The shape's epilogue on a product that lies in c, for what cuBLASLt does not fuse.
void finish_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

// Products of bf16 data with the router's fp32 weights and gradients.
void mixed_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

// Those with so few logits that they are bound by memory. False: not one of them.
bool few_logits_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

}  // namespace imhotep::kernels::cuda
