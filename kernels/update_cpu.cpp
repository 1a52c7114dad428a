#include <cmath>

#include "kernels/simd.h"
#include "kernels/update.h"

namespace imhotep::kernels::cpu {

template <class T>
IMHOTEP_INLINE void sum_squares_body(const SumSquares& shape, const SumSquaresOperands& operands) {
  const T* x = static_cast<const T*>(operands.x);
  double sum = 0;
  IMHOTEP_REDUCE(+ : sum)
  for (std::int64_t i = 0; i < shape.elements; ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  *operands.total += shape.scale * sum;
}
IMHOTEP_KERNEL(sum_squares, SumSquares)

template <class T>
struct AdamWStep {
  T beta1, rest1, beta2, rest2;
  T factor;      // of the gradient
  T step;        // lr / (1 - beta1^step)
  T correction;  // 1 / sqrt(1 - beta2^step)
  T eps;
};

template <class T>
struct AdamWSpan {
  const T* grad;
  T *weight, *m, *v;
};

template <class T>
IMHOTEP_INLINE void update(AdamWSpan<T> span, std::int64_t begin, std::int64_t end, T keep,
                           const AdamWStep<T>& by) {
  const T* grad = span.grad;
  T *weight = span.weight, *first = span.m, *second = span.v;
  IMHOTEP_SIMD
  for (std::int64_t i = begin; i < end; ++i) {
    const T g = grad[i] * by.factor;
    const T m = by.beta1 * first[i] + by.rest1 * g;
    const T v = by.beta2 * second[i] + by.rest2 * g * g;
    first[i] = m;
    second[i] = v;
    weight[i] = weight[i] * keep - by.step * m / (std::sqrt(v) * by.correction + by.eps);
  }
}

template <class T>
IMHOTEP_INLINE void adamw_body(const AdamW& shape, const AdamWOperands& operands) {
  const AdamWHyper& hyper = operands.hyper;
  const auto steps = static_cast<double>(hyper.step);
  const AdamWStep<T> by{
      .beta1 = static_cast<T>(hyper.beta1),
      .rest1 = static_cast<T>(1 - hyper.beta1),
      .beta2 = static_cast<T>(hyper.beta2),
      .rest2 = static_cast<T>(1 - hyper.beta2),
      .factor = operands.factor != nullptr ? static_cast<T>(*operands.factor) : T(1),
      .step = static_cast<T>(hyper.lr / (1 - std::pow(hyper.beta1, steps))),
      .correction = static_cast<T>(1 / std::sqrt(1 - std::pow(hyper.beta2, steps))),
      .eps = static_cast<T>(hyper.eps)};
  const AdamWSpan<T> span{.grad = static_cast<const T*>(operands.grad),
                          .weight = static_cast<T*>(operands.weight),
                          .m = static_cast<T*>(operands.m),
                          .v = static_cast<T*>(operands.v)};
  const T keep = static_cast<T>(1 - hyper.lr * hyper.weight_decay);
  update(span, 0, shape.decayed, keep, by);
  update(span, shape.decayed, shape.elements, T(1), by);
}
IMHOTEP_KERNEL(adamw, AdamW)

}  // namespace imhotep::kernels::cpu
