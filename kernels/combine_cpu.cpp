// Token by token: every row is read once, every output row is written once. Data and wide type
// are the same on the CPU.

#include "kernels/combine.h"
#include "kernels/row_ops.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
IMHOTEP_INLINE void combine_body(const Combine& shape, const CombineOperands& operands) {
  const RowWindow window(operands.range);
  const auto* rows = static_cast<const T*>(operands.rows);
  const auto* weight = static_cast<const T*>(operands.weight);
  const std::int32_t* position = operands.position;
  auto* y = static_cast<T*>(operands.y);
  const std::int64_t n = shape.hidden, routes = shape.k * shape.copies;
  for (std::int64_t t = 0; t < shape.tokens; ++t, y += n, position += routes, weight += shape.k) {
    bool fresh = true;
    for (std::int64_t r = 0; r < routes; ++r) {
      if (!window.holds(position[r])) continue;
      const T* row = rows + (position[r] - window.base) * n;
      const T w = weight[r / shape.copies];
      fresh ? row_scale(n, w, row, y) : row_scale_add(n, w, row, y);
      fresh = false;
    }
    if (fresh) row_zero(n, y);
  }
}

template <class T>
IMHOTEP_INLINE void combine_grad_body(const CombineGrad& shape,
                                      const CombineGradOperands& operands) {
  const RowWindow window(operands.range), d_window(operands.d_range);
  const auto* dy = static_cast<const T*>(operands.dy);
  const auto* rows = static_cast<const T*>(operands.rows);
  const auto* weight = static_cast<const T*>(operands.weight);
  const std::int32_t* position = operands.position;
  auto* d_rows = static_cast<T*>(operands.d_rows);
  auto* d_weight = static_cast<T*>(operands.d_weight);
  const std::int64_t n = shape.hidden;
  for (std::int64_t t = 0; t < shape.tokens; ++t, dy += n) {
    for (std::int64_t c = 0; c < shape.k; ++c, ++weight, ++d_weight) {
      T dot = 0;
      for (std::int64_t copy = 0; copy < shape.copies; ++copy, ++position) {
        if (window.holds(*position)) dot += row_dot(n, dy, rows + (*position - window.base) * n);
        if (d_window.holds(*position)) {
          row_scale(n, *weight, dy, d_rows + (*position - d_window.base) * n);
        }
      }
      *d_weight = dot;
    }
  }
}

}  // namespace

IMHOTEP_KERNEL(combine, Combine)
IMHOTEP_KERNEL(combine_grad, CombineGrad)

}  // namespace imhotep::kernels::cpu
