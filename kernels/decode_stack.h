#pragma once
// The blocks of a model for the few rows of a decode step, in one operation: attention with the
// paged cache, then a dense MLP or the chosen experts with or without a residual branch, block
// after block. It composes norm_gemm, attention_cached, gemm, norm_gate, few_experts_up and
// few_experts_down (their headers have the formulas); on a GPU it is one kernel that stays on all
// multiprocessors, so that weights stream while blocks wait for each other.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/few_rows.h"
#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// Shapes: h = hidden, f = ffn, E = experts, T = rows.
struct DecodeLayerOperands {
  const void *gain1 = nullptr, *shift1 = nullptr;    // data [h]
  const void *qkv = nullptr, *qkv_bias = nullptr;    // data [3h, h], [3h]
  const void *proj = nullptr, *proj_bias = nullptr;  // data [h, h], [h]
  const void *gain2 = nullptr, *shift2 = nullptr;    // data [h]
  // Of a dense block or the residual branch, else null:
  const void *up = nullptr, *up_bias = nullptr;      // data [f, h], [f]
  const void *down = nullptr, *down_bias = nullptr;  // data [h, f], [h]
  // Of a MoE block, else null:
  const void* gate = nullptr;                                        // wide [E, h]
  const void *coefficient = nullptr, *coefficient_bias = nullptr;    // wide [2, h], [2]: residual
  const void *experts_up = nullptr, *experts_up_bias = nullptr;      // data [E, f, h], [E, f]
  const void *experts_down = nullptr, *experts_down_bias = nullptr;  // data [E, h, f], [E, h]
  const void* noise = nullptr;                  // wide [T, E], added to the logits, or null
  std::int32_t* expert = nullptr;               // out [T, k], -1 = unused
  void *weight = nullptr, *stats = nullptr;     // out wide [T, k], [2, E], as in RouteOperands
  void *k_pages = nullptr, *v_pages = nullptr;  // in/out data, as in AttentionCachedOperands
};
struct DecodeStackOperands {
  const void* x = nullptr;  // data [T, h]
  const std::int32_t *positions = nullptr, *sequences = nullptr, *block_table = nullptr;
  const std::int32_t* used = nullptr;           // [T] or null, as in RouteOperands
  const DecodeLayerOperands* layers = nullptr;  // host memory, one a layer
  void* y = nullptr;                            // out data [T, h]; not x
};
// CUDA: bf16, compute capability 9.0, head_dim 64 or 128 and suits_decode_stack
// (core/base/few_rows.h).
void decode_stack(const Queue& queue, const DecodeStack& shape,
                  const DecodeStackOperands& operands);

namespace cpu {
template <class T>
void decode_stack(const DecodeStack& shape, const DecodeStackOperands& operands);
}  // namespace cpu
namespace cuda {
void decode_stack(const Queue& queue, const DecodeStack& shape,
                  const DecodeStackOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
