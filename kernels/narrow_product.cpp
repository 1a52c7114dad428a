#include "kernels/narrow_product.h"

#include "kernels/vectors.h"

namespace imhotep::kernels::cpu {
namespace {

// Rows of the tall matrix read side by side: a vector of `few` is loaded once for all of them,
// and few * tall accumulators stay within the 32 registers of AVX-512. The rows of the next tile
// are prefetched: with several products a line, the processor looks too few lines ahead by itself.
constexpr int tall_rows_at_once(int few) { return few <= 4 ? 4 : 2; }

template <class T, int kFew, int kTall>
IMHOTEP_INLINE void tile(const NarrowProduct<T>& p, std::int64_t j) {
  const std::int64_t depth = p.depth;
  const T* tall = p.tall + j * depth;
  Vector<T> sums[kFew][kTall] = {};
  std::int64_t k = 0;
  for (; k + kLanes<T> <= depth; k += kLanes<T>) {
    Vector<T> weights[kTall];
#pragma GCC unroll 8
    for (int t = 0; t < kTall; ++t) __builtin_prefetch(tall + (t + kTall) * depth + k);
#pragma GCC unroll 8
    for (int t = 0; t < kTall; ++t) weights[t] = load(tall + t * depth + k);
#pragma GCC unroll 8
    for (int f = 0; f < kFew; ++f) {
      const Vector<T> x = load(p.few + f * depth + k);
#pragma GCC unroll 8
      for (int t = 0; t < kTall; ++t) sums[f][t] += x * weights[t];
    }
  }
#pragma GCC unroll 8
  for (int f = 0; f < kFew; ++f) {
#pragma GCC unroll 8
    for (int t = 0; t < kTall; ++t) {
      T sum = lane_sum(sums[f][t]);
#pragma GCC unroll 1
      for (std::int64_t i = k; i < depth; ++i) sum += p.few[f * depth + i] * tall[t * depth + i];
      T& c = p.c[f * p.few_step + (j + t) * p.tall_step];
      c = p.accumulate ? c + sum : sum;
    }
  }
}

template <class T, int kFew>
IMHOTEP_INLINE void rows(const NarrowProduct<T>& p) {
  constexpr int kTall = tall_rows_at_once(kFew);
  std::int64_t j = 0;
  for (; j + kTall <= p.tall_rows; j += kTall) tile<T, kFew, kTall>(p, j);
  for (; j < p.tall_rows; ++j) tile<T, kFew, 1>(p, j);
}

template <class T>
IMHOTEP_INLINE void pass(const NarrowProduct<T>& p) {
  switch (p.few_rows) {
    case 1:
      return rows<T, 1>(p);
    case 2:
      return rows<T, 2>(p);
    case 3:
      return rows<T, 3>(p);
    case 4:
      return rows<T, 4>(p);
    case 5:
      return rows<T, 5>(p);
    case 6:
      return rows<T, 6>(p);
    case 7:
      return rows<T, 7>(p);
    default:
      return rows<T, 8>(p);
  }
}

template <class T>
IMHOTEP_INLINE void narrow_product_body(NarrowProduct<T> p) {
  constexpr std::int64_t kMost = 8;
  const std::int64_t passes = (p.few_rows + kMost - 1) / kMost;
  const std::int64_t step = passes > 0 ? (p.few_rows + passes - 1) / passes : 1;
  for (std::int64_t left = p.few_rows; left > 0; left -= step) {
    p.few_rows = left < step ? left : step;
    pass(p);
    p.few += step * p.depth;
    p.c += step * p.few_step;
  }
}

}  // namespace

IMHOTEP_CLONES void narrow_product(const NarrowProduct<float>& p) { narrow_product_body(p); }
IMHOTEP_CLONES void narrow_product(const NarrowProduct<double>& p) { narrow_product_body(p); }

}  // namespace imhotep::kernels::cpu
