// Several passes over one row, which stays in the first-level cache.
#include <cmath>

#include "kernels/layer_norm.h"
#include "kernels/simd.h"
#include "kernels/vectors.h"

namespace imhotep::kernels::cpu {

// Sum of (x - mean)^2.
template <class T>
IMHOTEP_INLINE T deviations_of(const T* x, T mean, std::int64_t count) {
  Vector<T> a = {}, b = {};
  std::int64_t i = 0;
  for (; i + 2 * kLanes<T> <= count; i += 2 * kLanes<T>) {
    const Vector<T> first = load(x + i) - mean, second = load(x + i + kLanes<T>) - mean;
    a += first * first;
    b += second * second;
  }
  T sum = lane_sum(a + b);
#pragma GCC unroll 1
  for (; i < count; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum;
}

template <class T>
IMHOTEP_INLINE void layer_norm_body(const LayerNorm& shape, const LayerNormOperands& operands) {
  const std::int64_t hidden = shape.hidden;
  const T inverse = T(1) / static_cast<T>(hidden);
  const T* gain = static_cast<const T*>(operands.gain);
  const T* bias = static_cast<const T*>(operands.bias);
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const T* x = static_cast<const T*>(operands.x) + row * hidden;
    T* y = static_cast<T*>(operands.y) + row * hidden;
    const T mean = sum_of(x, hidden) * inverse;
    const T variance = deviations_of(x, mean, hidden) * inverse;
    const T rstd = T(1) / std::sqrt(variance + static_cast<T>(kLayerNormEpsilon));
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < hidden; ++i) y[i] = (x[i] - mean) * rstd * gain[i] + bias[i];
    static_cast<T*>(operands.mean)[row] = mean;
    static_cast<T*>(operands.rstd)[row] = rstd;
  }
}
IMHOTEP_KERNEL(layer_norm, LayerNorm)

// With g = dy * gain and n = (x - mean) * rstd: dx = rstd (g - mean(g) - n mean(g n)).
template <class T>
IMHOTEP_INLINE void layer_norm_grad_body(const LayerNormGrad& shape,
                                         const LayerNormGradOperands& operands) {
  const std::int64_t hidden = shape.hidden;
  const T inverse = T(1) / static_cast<T>(hidden);
  const T* gain = static_cast<const T*>(operands.gain);
  T* dgain = static_cast<T*>(operands.dgain);
  T* dbias = static_cast<T*>(operands.dbias);
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const T* x = static_cast<const T*>(operands.x) + row * hidden;
    const T* dy = static_cast<const T*>(operands.dy) + row * hidden;
    T* dx = static_cast<T*>(operands.dx) + row * hidden;
    const T mean = static_cast<const T*>(operands.mean)[row];
    const T rstd = static_cast<const T*>(operands.rstd)[row];
    T sum_g = 0, sum_gn = 0;
    IMHOTEP_REDUCE(+ : sum_g, sum_gn)
    for (std::int64_t i = 0; i < hidden; ++i) {
      const T normal = (x[i] - mean) * rstd;
      dgain[i] += dy[i] * normal;
      dbias[i] += dy[i];
      sum_g += dy[i] * gain[i];
      sum_gn += dy[i] * gain[i] * normal;
    }
    const T mean_g = sum_g * inverse, mean_gn = sum_gn * inverse;
    if (shape.accumulate) {
      IMHOTEP_SIMD
      for (std::int64_t i = 0; i < hidden; ++i) {
        dx[i] += rstd * (dy[i] * gain[i] - mean_g - (x[i] - mean) * rstd * mean_gn);
      }
    } else {
      IMHOTEP_SIMD
      for (std::int64_t i = 0; i < hidden; ++i) {
        dx[i] = rstd * (dy[i] * gain[i] - mean_g - (x[i] - mean) * rstd * mean_gn);
      }
    }
  }
}
IMHOTEP_KERNEL(layer_norm_grad, LayerNormGrad)

}  // namespace imhotep::kernels::cpu
