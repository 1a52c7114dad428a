#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cross_entropy.h"
#include "kernels/vector_math.h"
#include "kernels/vectors.h"

namespace imhotep::kernels::cpu {
namespace {

// Sum of exp(x - high), in pieces that stay in the first-level cache.
template <class T>
IMHOTEP_INLINE T exponential_sum(const T* x, std::int64_t count, T high) {
  constexpr std::int64_t kPiece = 512;
  T piece[kPiece];
  T sum = 0;
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    const std::int64_t size = std::min(kPiece, count - begin);
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < size; ++i) piece[i] = fast_exp(x[begin + i] - high);
    sum += sum_of(piece, size);
  }
  return sum;
}

template <class T>
IMHOTEP_INLINE void softmax_stats_body(const SoftmaxStats& shape,
                                       const SoftmaxStatsOperands& operands) {
  const std::int64_t valid =
      std::clamp(shape.valid - shape.vocab_begin, std::int64_t{0}, shape.cols);
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const T* x = static_cast<const T*>(operands.logits) + row * shape.cols;
    T* stats = static_cast<T*>(operands.stats) + 3 * row;
    const std::int64_t target = operands.targets[row], local = target - shape.vocab_begin;
    stats[0] = valid > 0 ? maximum_of(x, valid) : -std::numeric_limits<T>::infinity();
    stats[1] = exponential_sum(x, valid, stats[0]);
    stats[2] = target >= 0 && local >= 0 && local < valid ? x[local] : T(0);
  }
}

template <class T>
struct Target {
  T logit = 0;
  T lse = 0;  // log of the sum of all exponentials
};

template <class T>
IMHOTEP_INLINE Target<T> combine_parts(const T* stats, std::int64_t parts, std::int64_t step) {
  T high = stats[0];
  for (std::int64_t part = 1; part < parts; ++part) high = std::max(high, stats[part * step]);
  T sum = 0, logit = 0;
  for (std::int64_t part = 0; part < parts; ++part) {
    sum += stats[part * step + 1] * std::exp(stats[part * step] - high);
    logit += stats[part * step + 2];
  }
  return {.logit = logit, .lse = high + std::log(sum)};
}

template <class T>
IMHOTEP_INLINE void cross_entropy_body(const CrossEntropy& shape,
                                       const CrossEntropyOperands& operands) {
  const std::int64_t valid =
      std::clamp(shape.valid - shape.vocab_begin, std::int64_t{0}, shape.cols);
  const T scale = static_cast<T>(operands.scale);
  double loss = 0;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const std::int64_t target = operands.targets[row], local = target - shape.vocab_begin;
    T* logits = static_cast<T*>(operands.logits) + row * shape.cols;
    T* logprob = static_cast<T*>(operands.logprob) + row;
    if (target < 0) {
      *logprob = 0;
      if (shape.gradient) std::fill_n(logits, shape.cols, T(0));
      continue;
    }
    const Target<T> found =
        combine_parts(static_cast<const T*>(operands.stats) + 3 * row, shape.parts, 3 * shape.rows);
    *logprob = found.logit - found.lse;
    loss -= static_cast<double>(*logprob);
    if (!shape.gradient) continue;
    const T lse = found.lse;
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < valid; ++i) logits[i] = scale * fast_exp(logits[i] - lse);
    if (local >= 0 && local < valid) logits[local] -= scale;
    std::fill_n(logits + valid, shape.cols - valid, T(0));
  }
  *operands.loss_sum += loss;
}

}  // namespace

IMHOTEP_KERNEL(softmax_stats, SoftmaxStats)
IMHOTEP_KERNEL(cross_entropy, CrossEntropy)

}  // namespace imhotep::kernels::cpu
