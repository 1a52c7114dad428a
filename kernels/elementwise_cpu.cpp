#include "kernels/elementwise.h"

#include <algorithm>

#include "kernels/simd.h"

namespace imhotep::kernels::cpu {

// Four rows a pass, so that `out` is loaded and stored once for four elements of x.
template <class T>
IMHOTEP_INLINE void column_sum_body(const ColumnSum& shape, const ColumnSumOperands& operands) {
  const std::int64_t rows = shape.rows, cols = shape.cols;
  const T* x = static_cast<const T*>(operands.x);
  T* out = static_cast<T*>(operands.out);
  if (!shape.accumulate) std::fill_n(out, cols, T(0));
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4, x += 4 * cols) {
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < cols; ++i) {
      out[i] += (x[i] + x[cols + i]) + (x[2 * cols + i] + x[3 * cols + i]);
    }
  }
  for (; row < rows; ++row, x += cols) {
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < cols; ++i) out[i] += x[i];
  }
}
IMHOTEP_KERNEL(column_sum, ColumnSum)

template <class T>
IMHOTEP_INLINE void add_body(const Add& shape, const AddOperands& operands) {
  const T* x = static_cast<const T*>(operands.x);
  T* y = static_cast<T*>(operands.y);
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < shape.elements; ++i) y[i] += x[i];
}
IMHOTEP_KERNEL(add, Add)

}  // namespace imhotep::kernels::cpu
