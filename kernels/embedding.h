#pragma once
// Token and position embeddings, with the vocabulary divided among ranks.
// A rank holds rows [vocab_begin, vocab_begin + vocab_count) of the token table; tokens of other
// ranks give zero here and the ranks' results are summed. Just one of the ranks may add positions.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// y[row] = table[token - vocab_begin] if held here (+ position_table[position] if add_position).
// A row whose token is -1 is padding: zero, without a position.
struct EmbeddingOperands {
  const std::int32_t* tokens = nullptr;     // table [rows]
  const std::int32_t* positions = nullptr;  // table [rows]; unused without add_position
  const void* table = nullptr;              // data [vocab_count, hidden]
  const void* position_table = nullptr;     // data [position, hidden]; unused likewise
  void* y = nullptr;                        // out data [rows, hidden]
};
void embedding(const Queue& queue, const Embedding& shape, const EmbeddingOperands& operands);

// dtable[token - vocab_begin] += dy[row] if held here; dposition_table[position] += dy[row].
struct EmbeddingGradOperands {
  const std::int32_t* tokens = nullptr;     // table [rows]
  const std::int32_t* positions = nullptr;  // table [rows]; unused if dposition_table is null
  const void* dy = nullptr;                 // data [rows, hidden]
  void* dtable = nullptr;                   // in/out data [vocab_count, hidden]
  void* dposition_table = nullptr;          // in/out data [position, hidden]; null: not wanted
};
void embedding_grad(const Queue& queue, const EmbeddingGrad& shape,
                    const EmbeddingGradOperands& operands);

namespace cpu {
template <class T>
void embedding(const Embedding& shape, const EmbeddingOperands& operands);
template <class T>
void embedding_grad(const EmbeddingGrad& shape, const EmbeddingGradOperands& operands);
}  // namespace cpu

namespace cuda {
void embedding(const Queue& queue, const Embedding& shape, const EmbeddingOperands& operands);
void embedding_grad(const Queue& queue, const EmbeddingGrad& shape,
                    const EmbeddingGradOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
