// For each sequence, head and block of queries: products by OpenBLAS around a vectorised softmax.
// A block of queries multiplies the keys up to its own end, so little of the masked half is
// computed.
#include <cmath>
#include <limits>

#include "kernels/attention.h"
#include "kernels/blas.h"
#include "kernels/simd.h"
#include "kernels/vector_math.h"
#include "kernels/vectors.h"

namespace imhotep::kernels::cpu {
namespace {

// Rows [begin, end) of the scores of one head: keys [0, end) in columns, `end` columns a row.
template <class T>
struct ScoreBlock {
  std::int64_t begin = 0, end = 0;
  T* scores = nullptr;
  T scale = 0;
};

template <class T>
struct Forward {
  ScoreBlock<T> block;
  T* ctx = nullptr;  // row begin of this head
  std::int64_t stride = 0, head_dim = 0;
  T* lse = nullptr;      // of this head
  T* inverse = nullptr;  // 1 / sum of the exponentials of each row of the block
};

// Columns after the row's own position: the exponential of -infinity is 0.
template <class T>
IMHOTEP_INLINE void mask(T* scores, std::int64_t row, std::int64_t end) {
  for (std::int64_t i = row + 1; i < end; ++i) scores[i] = -std::numeric_limits<T>::infinity();
}

// scores -> exp(scale (score - max)); the context is divided by their sum later.
template <class T>
IMHOTEP_INLINE void exponentials_body(const Forward<T>& f) {
  const ScoreBlock<T> b = f.block;
  const T scale = b.scale;
  for (std::int64_t row = b.begin; row < b.end; ++row) {
    T* s = b.scores + (row - b.begin) * b.end;
    mask(s, row, b.end);
    const T shift = maximum_of(s, b.end) * scale;
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < b.end; ++i) s[i] = fast_exp(s[i] * scale - shift);
    const T sum = sum_of(s, b.end);
    f.lse[row] = shift + std::log(sum);
    f.inverse[row - b.begin] = T(1) / sum;
  }
}
IMHOTEP_CLONES void exponentials(const Forward<float>& f) { exponentials_body(f); }
IMHOTEP_CLONES void exponentials(const Forward<double>& f) { exponentials_body(f); }

template <class T>
IMHOTEP_INLINE void divide_body(const Forward<T>& f) {
  for (std::int64_t row = 0; row < f.block.end - f.block.begin; ++row) {
    T* ctx = f.ctx + row * f.stride;
    const T inverse = f.inverse[row];
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < f.head_dim; ++i) ctx[i] *= inverse;
  }
}
IMHOTEP_CLONES void divide(const Forward<float>& f) { divide_body(f); }
IMHOTEP_CLONES void divide(const Forward<double>& f) { divide_body(f); }

template <class T>
struct Backward {
  ScoreBlock<T> block;
  T* dscores = nullptr;     // in: gradient of the probabilities; out: of the scores
  const T* ctx = nullptr;   // row begin of this head
  const T* dctx = nullptr;  // likewise
  std::int64_t stride = 0, head_dim = 0;
  const T* lse = nullptr;
};

// scores -> probabilities p; dp -> scale p (dp - sum over keys of p dp), and that sum is <ctx,
// dctx>.
template <class T>
IMHOTEP_INLINE void score_gradient_body(const Backward<T>& g) {
  const ScoreBlock<T> b = g.block;
  const T scale = b.scale;
  for (std::int64_t row = b.begin; row < b.end; ++row) {
    const T* ctx = g.ctx + (row - b.begin) * g.stride;
    const T* dctx = g.dctx + (row - b.begin) * g.stride;
    const T dot = dot_of(ctx, dctx, g.head_dim);
    T* s = b.scores + (row - b.begin) * b.end;
    T* d = g.dscores + (row - b.begin) * b.end;
    mask(s, row, b.end);
    const T lse = g.lse[row];
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < b.end; ++i) {
      const T p = fast_exp(s[i] * scale - lse);
      s[i] = p;
      d[i] = scale * p * (d[i] - dot);
    }
  }
}
IMHOTEP_CLONES void score_gradient(const Backward<float>& g) { score_gradient_body(g); }
IMHOTEP_CLONES void score_gradient(const Backward<double>& g) { score_gradient_body(g); }

}  // namespace

template <class T>
void attention(const Attention& shape, const AttentionOperands& operands) {
  const std::int64_t dim = shape.head_dim, width = shape.heads * dim, stride = 3 * width;
  T* scores = static_cast<T*>(operands.scratch);
  T inverse[kAttentionBlock];
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(dim)));
  for (std::int64_t item = 0; item < shape.batch * shape.heads; ++item) {
    const std::int64_t token = item / shape.heads * shape.sequence, head = item % shape.heads;
    const T* q = static_cast<const T*>(operands.qkv) + token * stride + head * dim;
    const T *k = q + width, *v = k + width;
    T* ctx = static_cast<T*>(operands.ctx) + token * width + head * dim;
    T* lse = static_cast<T*>(operands.lse) + item * shape.sequence;
    for (std::int64_t begin = 0; begin < shape.sequence; begin += kAttentionBlock) {
      const std::int64_t end = std::min(begin + kAttentionBlock, shape.sequence);
      const std::int64_t rows = end - begin;
      blas::gemm({rows, end, dim}, T(1), {q + begin * stride, stride}, {k, stride, true}, T(0),
                 {scores, end});
      const Forward<T> rest{.block = {.begin = begin, .end = end, .scores = scores, .scale = scale},
                            .ctx = ctx + begin * width,
                            .stride = width,
                            .head_dim = dim,
                            .lse = lse,
                            .inverse = inverse};
      exponentials(rest);
      blas::gemm({rows, dim, end}, T(1), {scores, end}, {v, stride}, T(0), {rest.ctx, width});
      divide(rest);
    }
  }
}
template void attention<float>(const Attention& shape, const AttentionOperands& operands);
template void attention<double>(const Attention& shape, const AttentionOperands& operands);

// The last block sees every key, so it writes dk and dv; the others, going back, add to them.
template <class T>
void attention_grad(const AttentionGrad& shape, const AttentionGradOperands& operands) {
  const std::int64_t dim = shape.head_dim, width = shape.heads * dim, stride = 3 * width;
  const std::int64_t block = std::min(kAttentionBlock, shape.sequence);
  T* scores = static_cast<T*>(operands.scratch);
  T* dscores = scores + block * shape.sequence;
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(dim)));
  for (std::int64_t item = 0; item < shape.batch * shape.heads; ++item) {
    const std::int64_t token = item / shape.heads * shape.sequence, head = item % shape.heads;
    const std::int64_t at = token * stride + head * dim;
    const T* q = static_cast<const T*>(operands.qkv) + at;
    const T *k = q + width, *v = k + width;
    T* dq = static_cast<T*>(operands.dqkv) + at;
    T *dk = dq + width, *dv = dk + width;
    const T* ctx = static_cast<const T*>(operands.ctx) + token * width + head * dim;
    const T* dctx = static_cast<const T*>(operands.dctx) + token * width + head * dim;
    std::int64_t end = shape.sequence;
    while (end > 0) {
      const std::int64_t begin = (end - 1) / block * block, rows = end - begin;
      const T keep = end == shape.sequence ? T(0) : T(1);
      const blas::Factor<T> q_rows{q + begin * stride, stride};
      const blas::Factor<T> dctx_rows{dctx + begin * width, width};
      blas::gemm({rows, end, dim}, T(1), q_rows, {k, stride, true}, T(0), {scores, end});
      blas::gemm({rows, end, dim}, T(1), dctx_rows, {v, stride, true}, T(0), {dscores, end});
      score_gradient({.block = {.begin = begin, .end = end, .scores = scores, .scale = scale},
                      .dscores = dscores,
                      .ctx = ctx + begin * width,
                      .dctx = dctx_rows.data,
                      .stride = width,
                      .head_dim = dim,
                      .lse = static_cast<const T*>(operands.lse) + item * shape.sequence});
      blas::gemm({end, dim, rows}, T(1), {scores, end, true}, dctx_rows, keep, {dv, stride});
      blas::gemm({end, dim, rows}, T(1), {dscores, end, true}, q_rows, keep, {dk, stride});
      blas::gemm({rows, dim, end}, T(1), {dscores, end}, {k, stride}, T(0),
                 {dq + begin * stride, stride});
      end = begin;
    }
  }
}
template void attention_grad<float>(const AttentionGrad& shape,
                                    const AttentionGradOperands& operands);
template void attention_grad<double>(const AttentionGrad& shape,
                                     const AttentionGradOperands& operands);

}  // namespace imhotep::kernels::cpu
