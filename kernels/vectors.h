#pragma once
// Vectors of 64 bytes for the kernels that hold several accumulators in registers; the compiler
// splits them where registers are narrower. Only inside IMHOTEP_CLONES functions.

#include <cstdint>

#include "kernels/simd.h"

namespace imhotep::kernels {

template <class T>
struct VectorType {
  typedef T Type __attribute__((vector_size(64)));
  typedef T Unaligned __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vector = typename VectorType<T>::Type;

template <class T>
inline constexpr std::int64_t kLanes = 64 / static_cast<std::int64_t>(sizeof(T));

template <class T>
IMHOTEP_INLINE Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename VectorType<T>::Unaligned*>(from);
}

template <class T>
IMHOTEP_INLINE void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename VectorType<T>::Unaligned*>(to) = value;
}

template <class T>
IMHOTEP_INLINE Vector<T> larger(Vector<T> a, Vector<T> b) {
  return a > b ? a : b;
}

// Sum of all lanes: fold the upper half onto the lower one until one lane is left.
IMHOTEP_INLINE float lane_sum(Vector<float> v) {
  v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return v[0];
}
IMHOTEP_INLINE double lane_sum(Vector<double> v) {
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
  return v[0];
}

// Reductions over a row. The compiler's own are slower: one accumulator, and often no vectors.
template <class T>
IMHOTEP_INLINE T sum_of(const T* x, std::int64_t count) {
  constexpr std::int64_t kStep = 4 * kLanes<T>;
  Vector<T> a = {}, b = {}, c = {}, d = {};
  std::int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    a += load(x + i);
    b += load(x + i + kLanes<T>);
    c += load(x + i + 2 * kLanes<T>);
    d += load(x + i + 3 * kLanes<T>);
  }
  for (; i + kLanes<T> <= count; i += kLanes<T>) a += load(x + i);
  T sum = lane_sum((a + b) + (c + d));
#pragma GCC unroll 1
  for (; i < count; ++i) sum += x[i];
  return sum;
}

template <class T>
IMHOTEP_INLINE T dot_of(const T* x, const T* y, std::int64_t count) {
  constexpr std::int64_t kStep = 2 * kLanes<T>;
  Vector<T> a = {}, b = {};
  std::int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    a += load(x + i) * load(y + i);
    b += load(x + i + kLanes<T>) * load(y + i + kLanes<T>);
  }
  for (; i + kLanes<T> <= count; i += kLanes<T>) a += load(x + i) * load(y + i);
  T sum = lane_sum(a + b);
#pragma GCC unroll 1
  for (; i < count; ++i) sum += x[i] * y[i];
  return sum;
}

// Requires: count > 0.
template <class T>
IMHOTEP_INLINE T maximum_of(const T* x, std::int64_t count) {
  T high = x[0];
  std::int64_t i = 0;
  if (count >= kLanes<T>) {
    Vector<T> a = load(x), b = a;
    for (i = kLanes<T>; i + 2 * kLanes<T> <= count; i += 2 * kLanes<T>) {
      a = larger<T>(a, load(x + i));
      b = larger<T>(b, load(x + i + kLanes<T>));
    }
    for (; i + kLanes<T> <= count; i += kLanes<T>) a = larger<T>(a, load(x + i));
    a = larger<T>(a, b);
    for (std::int64_t lane = 0; lane < kLanes<T>; ++lane) high = a[lane] > high ? a[lane] : high;
  }
#pragma GCC unroll 1
  for (; i < count; ++i) high = x[i] > high ? x[i] : high;
  return high;
}

}  // namespace imhotep::kernels
