#include <algorithm>

#include "kernels/embedding.h"
#include "kernels/simd.h"

namespace imhotep::kernels::cpu {

template <class T>
IMHOTEP_INLINE void add_row(const T* x, T* y, std::int64_t hidden) {
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < hidden; ++i) y[i] += x[i];
}

template <class T>
IMHOTEP_INLINE void embedding_body(const Embedding& shape, const EmbeddingOperands& operands) {
  const std::int64_t hidden = shape.hidden;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const std::int64_t token = operands.tokens[row];
    const std::int64_t local = token - shape.vocab_begin;
    T* y = static_cast<T*>(operands.y) + row * hidden;
    if (token >= 0 && local >= 0 && local < shape.vocab_count) {
      std::copy_n(static_cast<const T*>(operands.table) + local * hidden, hidden, y);
    } else {
      std::fill_n(y, hidden, T(0));
    }
    if (token >= 0 && shape.add_position) {
      const std::int64_t position = operands.positions[row];
      add_row(static_cast<const T*>(operands.position_table) + position * hidden, y, hidden);
    }
  }
}
IMHOTEP_KERNEL(embedding, Embedding)

template <class T>
IMHOTEP_INLINE void embedding_grad_body(const EmbeddingGrad& shape,
                                        const EmbeddingGradOperands& operands) {
  const std::int64_t hidden = shape.hidden;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const std::int64_t token = operands.tokens[row];
    if (token < 0) continue;
    const std::int64_t local = token - shape.vocab_begin;
    const T* dy = static_cast<const T*>(operands.dy) + row * hidden;
    if (local >= 0 && local < shape.vocab_count) {
      add_row(dy, static_cast<T*>(operands.dtable) + local * hidden, hidden);
    }
    if (operands.dposition_table != nullptr) {
      const std::int64_t position = operands.positions[row];
      add_row(dy, static_cast<T*>(operands.dposition_table) + position * hidden, hidden);
    }
  }
}
IMHOTEP_KERNEL(embedding_grad, EmbeddingGrad)

}  // namespace imhotep::kernels::cpu
