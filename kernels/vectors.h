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

}  // namespace imhotep::kernels
