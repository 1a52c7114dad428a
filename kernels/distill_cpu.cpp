// With S = sum exp((s - max s) / tau) and T likewise, the divergence of a row is
// sum p ((t - max t) - (s - max s)) / tau + log S - log T: no logarithm a column.
#include <algorithm>
#include <cmath>

#include "kernels/distill.h"
#include "kernels/vector_math.h"
#include "kernels/vectors.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
struct Pair {
  const T *student, *teacher;
  std::int64_t count;
  T inverse_tau, student_high, teacher_high;
};

struct Sums {
  double student = 0, teacher = 0;  // of the exponentials
  double weighted = 0;              // of the teacher's exponential times the scaled difference
};

template <class T>
IMHOTEP_INLINE Sums sums_of(const Pair<T>& pair) {
  constexpr std::int64_t kPiece = 256;
  T student[kPiece], teacher[kPiece], weighted[kPiece];
  const T inverse = pair.inverse_tau, s_high = pair.student_high, t_high = pair.teacher_high;
  Sums sums;
  for (std::int64_t begin = 0; begin < pair.count; begin += kPiece) {
    const std::int64_t size = std::min(kPiece, pair.count - begin);
    const T *s = pair.student + begin, *t = pair.teacher + begin;
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < size; ++i) {
      const T s_scaled = (s[i] - s_high) * inverse, t_scaled = (t[i] - t_high) * inverse;
      student[i] = fast_exp(s_scaled);
      teacher[i] = fast_exp(t_scaled);
      weighted[i] = teacher[i] * (t_scaled - s_scaled);
    }
    sums.student += static_cast<double>(sum_of(student, size));
    sums.teacher += static_cast<double>(sum_of(teacher, size));
    sums.weighted += static_cast<double>(sum_of(weighted, size));
  }
  return sums;
}

// d (+)= factor (q - p).
template <class T>
IMHOTEP_INLINE void add_gradient(const Pair<T>& pair, const Sums& sums, double factor, T* d) {
  const T *s = pair.student, *t = pair.teacher;
  const T inverse = pair.inverse_tau, s_high = pair.student_high, t_high = pair.teacher_high;
  const T of_q = static_cast<T>(factor / sums.student);
  const T of_p = static_cast<T>(factor / sums.teacher);
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < pair.count; ++i) {
    d[i] += of_q * fast_exp((s[i] - s_high) * inverse) - of_p * fast_exp((t[i] - t_high) * inverse);
  }
}

template <class T>
IMHOTEP_INLINE void distill_body(const Distill& shape, const DistillOperands& operands) {
  const auto tau = static_cast<double>(shape.temperature);
  const double factor = static_cast<double>(shape.beta) * tau * operands.scale;
  const std::int64_t cols = shape.cols, valid = operands.valid;
  double loss = 0;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    T* d = static_cast<T*>(operands.dstudent);
    if (d != nullptr) d += row * cols;
    if (d != nullptr && !operands.accumulate) std::fill_n(d, cols, T(0));
    if (valid == 0) continue;
    const T* s = static_cast<const T*>(operands.student) + row * cols;
    const T* t = static_cast<const T*>(operands.teacher) + row * cols;
    const Pair<T> pair{.student = s,
                       .teacher = t,
                       .count = valid,
                       .inverse_tau = static_cast<T>(1 / tau),
                       .student_high = maximum_of(s, valid),
                       .teacher_high = maximum_of(t, valid)};
    const Sums sums = sums_of(pair);
    loss += sums.weighted / sums.teacher + std::log(sums.student) - std::log(sums.teacher);
    if (d != nullptr) add_gradient(pair, sums, factor, d);
  }
  *operands.loss += factor * tau * loss;
}

}  // namespace

IMHOTEP_KERNEL(distill, Distill)

}  // namespace imhotep::kernels::cpu
