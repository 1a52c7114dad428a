#pragma once
// Operations on one row, inlined into IMHOTEP_CLONES functions of the row-moving families, and
// the window of rows that an operand holds. Internal to kernels/.

#include <cstdint>
#include <limits>

#include "kernels/simd.h"

namespace imhotep::kernels {

// Rows [base, end) of the full order are present; null tables mean all.
struct RowWindow {
  std::int64_t base = 0, end = std::numeric_limits<std::int64_t>::max();

  RowWindow() = default;
  explicit RowWindow(const std::int32_t* range) {
    if (range != nullptr) base = range[0], end = range[1];
  }
  [[nodiscard]] bool holds(std::int32_t position) const {
    return position >= base && position < end;
  }
};

template <class T>
IMHOTEP_INLINE void row_zero(std::int64_t n, T* y) {
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < n; ++i) y[i] = 0;
}
template <class T>
IMHOTEP_INLINE void row_add(std::int64_t n, const T* x, T* y) {
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < n; ++i) y[i] += x[i];
}
template <class T>
IMHOTEP_INLINE void row_scale(std::int64_t n, T w, const T* x, T* y) {
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < n; ++i) y[i] = w * x[i];
}
template <class T>
IMHOTEP_INLINE void row_scale_add(std::int64_t n, T w, const T* x, T* y) {
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < n; ++i) y[i] += w * x[i];
}
template <class T>
IMHOTEP_INLINE T row_dot(std::int64_t n, const T* x, const T* y) {
  T sum = 0;
  IMHOTEP_REDUCE(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

}  // namespace imhotep::kernels
