#include "kernels/narrow_product.h"

#include "kernels/vectors.h"

namespace imhotep::kernels::cpu {
namespace {

// A tile is up to four rows of `few` by six of `tall`: its accumulators and operands fill the 32
// registers of AVX-512, and a vector that is loaded serves four or six products. Six tall rows are
// read from memory by the first group of few rows and found in cache by the others. The rows of
// the next tile are prefetched: with several products a line, the processor looks too few lines
// ahead by itself. A group of two or three rows is computed as four, the last one repeated: the
// products are free beside the loads, and one well-scheduled tile serves all.
constexpr int kFewTile = 4, kTallTile = 6;

template <class T, int kFew, int kTall>
IMHOTEP_INLINE void tile(const NarrowProduct<T>& p, std::int64_t i, std::int64_t j) {
  const std::int64_t depth = p.depth;
  const std::int64_t left = p.few_rows - i;
  const T* few[kFew];
#pragma GCC unroll 8
  for (int f = 0; f < kFew; ++f) few[f] = p.few + (i + (f < left ? f : left - 1)) * depth;
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
      const Vector<T> x = load(few[f] + k);
#pragma GCC unroll 8
      for (int t = 0; t < kTall; ++t) sums[f][t] += x * weights[t];
    }
  }
#pragma GCC unroll 8
  for (int f = 0; f < kFew; ++f) {
    if (f >= left) break;
#pragma GCC unroll 8
    for (int t = 0; t < kTall; ++t) {
      T sum = lane_sum(sums[f][t]);
#pragma GCC unroll 1
      for (std::int64_t rest = k; rest < depth; ++rest) {
        sum += few[f][rest] * tall[t * depth + rest];
      }
      T& c = p.c[(i + f) * p.few_step + (j + t) * p.tall_step];
      c = p.accumulate ? c + sum : sum;
    }
  }
}

// All few rows by kTall tall rows.
template <class T, int kTall>
IMHOTEP_INLINE void strip(const NarrowProduct<T>& p, std::int64_t j) {
  if (p.few_rows == 1) return tile<T, 1, kTall>(p, 0, j);
  for (std::int64_t i = 0; i < p.few_rows; i += kFewTile) tile<T, kFewTile, kTall>(p, i, j);
}

template <class T>
IMHOTEP_INLINE void narrow_product_body(const NarrowProduct<T>& p) {
  std::int64_t j = 0;
  for (; j + kTallTile <= p.tall_rows; j += kTallTile) strip<T, kTallTile>(p, j);
  for (; j < p.tall_rows; ++j) strip<T, 1>(p, j);
}

}  // namespace

IMHOTEP_CLONES void narrow_product(const NarrowProduct<float>& p) { narrow_product_body(p); }
IMHOTEP_CLONES void narrow_product(const NarrowProduct<double>& p) { narrow_product_body(p); }

}  // namespace imhotep::kernels::cpu
