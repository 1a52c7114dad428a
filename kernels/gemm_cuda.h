#pragma once
// What the CUDA matrix product is made of. Internal to libimhotep_cuda.so.

#include <cstddef>

#include "kernels/cuda_check.h"
#include "kernels/gemm.h"

namespace imhotep::kernels::cuda {

// The shape's epilogue on a product that lies in c, for what cuBLASLt does not fuse.
void finish_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

// The product through cuBLASLt. Uses the workspace but for its last kKeptBytes, where operands may
// lie (kept_memory). Requires: k > 0, data of the queue's type.
void library_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

inline constexpr std::int64_t kKeptBytes = std::int64_t{8} << 20;
[[nodiscard]] inline void* kept_memory(const Queue& queue, std::int64_t bytes) {
  expect(bytes <= kKeptBytes && kKeptBytes <= queue.workspace_bytes, "gemm",
         "operands too large for the workspace");
  return static_cast<std::byte*>(queue.workspace) + (queue.workspace_bytes - kKeptBytes);
}

// Products of bf16 data with the router's fp32 weights and gradients.
void mixed_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

// Those with so few logits that they are bound by memory. False: not one of them.
bool few_logits_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands);

}  // namespace imhotep::kernels::cuda
