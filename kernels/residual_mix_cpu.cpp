// A softmax over two logits needs only their difference: c0 = sigmoid(a0 - a1), c1 = 1 - c0, and
// d a0 = c0 c1 (<dy, moe> - <dy, mlp>) = -d a1. Data and wide type are the same on the CPU.

#include <cmath>

#include "kernels/residual_mix.h"
#include "kernels/simd.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
struct Coefficients {
  T moe = 0, mlp = 0;
};

template <class T>
IMHOTEP_INLINE Coefficients<T> coefficients(const T* logits) {
  const T small = std::exp(-std::abs(logits[0] - logits[1]));
  const T high = T(1) / (T(1) + small), low = small / (T(1) + small);
  return logits[0] >= logits[1] ? Coefficients<T>{high, low} : Coefficients<T>{low, high};
}

// x may be y: both are read and written at the same element only.
template <class T>
IMHOTEP_INLINE void residual_mix_body(const ResidualMix& shape,
                                      const ResidualMixOperands& operands) {
  const auto* logits = static_cast<const T*>(operands.logits);
  for (std::int64_t row = 0; row < shape.rows; ++row, logits += 2) {
    const Coefficients<T> c = coefficients(logits);
    const std::int64_t at = row * shape.hidden;
    const T* x = static_cast<const T*>(operands.x) + at;
    const T* moe = static_cast<const T*>(operands.moe) + at;
    const T* mlp = static_cast<const T*>(operands.mlp) + at;
    T* y = static_cast<T*>(operands.y) + at;
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < shape.hidden; ++i) y[i] = x[i] + c.moe * moe[i] + c.mlp * mlp[i];
  }
}

// d_moe may be moe and d_mlp may be mlp: read, then written, at the same element only.
template <class T>
IMHOTEP_INLINE void residual_mix_grad_body(const ResidualMixGrad& shape,
                                           const ResidualMixGradOperands& operands) {
  const auto* logits = static_cast<const T*>(operands.logits);
  auto* d_logits = static_cast<T*>(operands.d_logits);
  for (std::int64_t row = 0; row < shape.rows; ++row, logits += 2, d_logits += 2) {
    const Coefficients<T> c = coefficients(logits);
    const std::int64_t at = row * shape.hidden;
    const T* dy = static_cast<const T*>(operands.dy) + at;
    const T* moe = static_cast<const T*>(operands.moe) + at;
    const T* mlp = static_cast<const T*>(operands.mlp) + at;
    T* d_moe = static_cast<T*>(operands.d_moe) + at;
    T* d_mlp = static_cast<T*>(operands.d_mlp) + at;
    T difference = 0;
    IMHOTEP_REDUCE(+ : difference)
    for (std::int64_t i = 0; i < shape.hidden; ++i) {
      difference += dy[i] * (moe[i] - mlp[i]);
      d_moe[i] = c.moe * dy[i];
      d_mlp[i] = c.mlp * dy[i];
    }
    d_logits[0] = c.moe * c.mlp * difference;
    d_logits[1] = -d_logits[0];
  }
}

}  // namespace

IMHOTEP_KERNEL(residual_mix, ResidualMix)
IMHOTEP_KERNEL(residual_mix_grad, ResidualMixGrad)

}  // namespace imhotep::kernels::cpu
