#pragma once
// Causal self-attention over whole sequences and its gradient.
// A row of qkv belongs to one token: the queries of all heads, then the keys, then the values.
// The scores of one block of queries are all that is kept of the score matrix; the gradient
// computes the probabilities again from lse.
// Source: Dao et al., "FlashAttention" (2022), algorithms 1 and 4, with blocks of queries only.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/scratch.h"
#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// ctx = softmax(q k^T / sqrt(head_dim), keys up to the query's own position) v.
struct AttentionOperands {
  const void* qkv = nullptr;  // data [batch * sequence, 3 * heads * head_dim]
  void* ctx = nullptr;        // out data [batch * sequence, heads * head_dim]
  void* lse = nullptr;        // out wide [batch, heads, sequence]: log of the sum of exponentials
  void* scratch = nullptr;    // data, core/base/scratch.h
};
void attention(const Queue& queue, const Attention& shape, const AttentionOperands& operands);

struct AttentionGradOperands {
  const void* qkv = nullptr;   // data [batch * sequence, 3 * heads * head_dim]
  const void* ctx = nullptr;   // data [batch * sequence, heads * head_dim], of the forward pass
  const void* lse = nullptr;   // wide [batch, heads, sequence], of the forward pass
  const void* dctx = nullptr;  // data [batch * sequence, heads * head_dim]
  void* dqkv = nullptr;        // out data [batch * sequence, 3 * heads * head_dim]
  void* scratch = nullptr;     // data
};
void attention_grad(const Queue& queue, const AttentionGrad& shape,
                    const AttentionGradOperands& operands);

namespace cpu {
template <class T>
void attention(const Attention& shape, const AttentionOperands& operands);
template <class T>
void attention_grad(const AttentionGrad& shape, const AttentionGradOperands& operands);
}  // namespace cpu

namespace cuda {
void attention(const Queue& queue, const Attention& shape, const AttentionOperands& operands);
void attention_grad(const Queue& queue, const AttentionGrad& shape,
                    const AttentionGradOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
