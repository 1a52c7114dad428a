#pragma once
// exp, sigmoid, GELU and its derivative in forms that vectorise inside IMHOTEP_CLONES functions.
// The float forms have no branch; doubles, which exist for tests, call the library.
// Source: exp: S. Moshier, Cephes mathematical library, expf (range reduction by ln 2 in two
// parts, polynomial of degree five).

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/simd.h"

namespace imhotep::kernels {

// e^x for x in [-87.33, 88.37], with a relative error below 2e-7.
IMHOTEP_INLINE float bounded_exp(float x) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = x * 1.44269504F + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const auto power = std::bit_cast<float>((std::bit_cast<std::int32_t>(shifted) + 127) << 23);
  return p * power;
}

// For x <= 88.37: 0 below -87.33, also for -infinity.
IMHOTEP_INLINE float fast_exp(float x) {
  constexpr float kLow = -87.33F;
  return x < kLow ? 0.0F : bounded_exp(x < kLow ? kLow : x);
}
IMHOTEP_INLINE double fast_exp(double x) { return std::exp(x); }

// 1 / (1 + e^-x); a float result does not fall below 4e-38.
IMHOTEP_INLINE float sigmoid(float x) {
  constexpr float kLimit = 86.0F;
  const float low = x < -kLimit ? -kLimit : x;
  return 1.0F / (1.0F + bounded_exp(-(low > kLimit ? kLimit : low)));
}
IMHOTEP_INLINE double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// GELU by tanh: x/2 (1 + tanh u) = x sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3).
// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", section 2.
inline constexpr double kGeluLinear = 1.5957691216057308;  // 2 sqrt(2/pi)
inline constexpr double kGeluCubic = 0.044715 * kGeluLinear;

template <class T>
IMHOTEP_INLINE T gelu(T x) {
  return x * sigmoid(x * (T(kGeluLinear) + T(kGeluCubic) * (x * x)));
}

template <class T>
IMHOTEP_INLINE T gelu_derivative(T x) {
  const T square = x * x;
  const T s = sigmoid(x * (T(kGeluLinear) + T(kGeluCubic) * square));
  return s + (s - s * s) * (x * (T(kGeluLinear) + T(3 * kGeluCubic) * square));
}

}  // namespace imhotep::kernels
