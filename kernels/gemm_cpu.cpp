// Products go to OpenBLAS, but for those with a handful of rows, which narrow_product() does at
// memory bandwidth. Before it accumulates, OpenBLAS fills c with zeros; a bias or an addend is
// written instead, at no cost. GELU is applied in slabs of rows, while they are in the
// second-level cache.
#include <algorithm>

#include "kernels/blas.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/narrow_product.h"
#include "kernels/simd.h"
#include "kernels/vector_math.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
struct Slab {
  std::int64_t rows, n;
  const T *bias, *addend;
  T *pre, *c;
};

// pre = bias (+ addend), which the product is added to.
template <class T>
IMHOTEP_INLINE void start_body(const Slab<T>& s) {
  for (std::int64_t row = 0; row < s.rows; ++row) {
    T* out = s.pre + row * s.n;
    if (s.addend == nullptr) {
      std::copy_n(s.bias, s.n, out);
    } else {
      const T* addend = s.addend + row * s.n;
      IMHOTEP_SIMD
      for (std::int64_t i = 0; i < s.n; ++i) out[i] = s.bias[i] + addend[i];
    }
  }
}
IMHOTEP_CLONES void start(const Slab<float>& slab) { start_body(slab); }
IMHOTEP_CLONES void start(const Slab<double>& slab) { start_body(slab); }

template <class T>
IMHOTEP_INLINE void activate_body(const Slab<T>& s) {
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < s.rows * s.n; ++i) s.c[i] = gelu(s.pre[i]);
}
IMHOTEP_CLONES void activate(const Slab<float>& slab) { activate_body(slab); }
IMHOTEP_CLONES void activate(const Slab<double>& slab) { activate_body(slab); }

template <class T>
IMHOTEP_INLINE void times_slope_body(const Slab<T>& s) {
  IMHOTEP_SIMD
  for (std::int64_t i = 0; i < s.rows * s.n; ++i) s.c[i] *= gelu_derivative(s.pre[i]);
}
IMHOTEP_CLONES void times_slope(const Slab<float>& slab) { times_slope_body(slab); }
IMHOTEP_CLONES void times_slope(const Slab<double>& slab) { times_slope_body(slab); }

template <class T>
void product(const Gemm& s, const T* a, const T* b, T* c) {
  if (s.k == 0) {
    if (!s.accumulate) std::fill_n(c, s.m * s.n, T(0));
  } else if (!s.transpose_a && s.transpose_b && std::min(s.m, s.n) <= kNarrowRows) {
    const bool few_a = s.m <= kNarrowRows;
    narrow_product(NarrowProduct<T>{.few_rows = few_a ? s.m : s.n,
                                    .tall_rows = few_a ? s.n : s.m,
                                    .depth = s.k,
                                    .few = few_a ? a : b,
                                    .tall = few_a ? b : a,
                                    .c = c,
                                    .few_step = few_a ? s.n : 1,
                                    .tall_step = few_a ? 1 : s.n,
                                    .accumulate = s.accumulate});
  } else {
    blas::gemm({s.m, s.n, s.k}, T(1), {a, s.transpose_a ? s.m : s.k, s.transpose_a},
               {b, s.transpose_b ? s.k : s.n, s.transpose_b}, s.accumulate ? T(1) : T(0), {c, s.n});
  }
}

// Half of a second-level cache of 1 MiB; a slab is not so thin that packing b costs much.
template <class T>
std::int64_t slab_rows(const Gemm& s) {
  constexpr std::int64_t kSlabBytes = 512 << 10, kFewest = 192;
  return std::max(kFewest, kSlabBytes / (s.n * static_cast<std::int64_t>(sizeof(T))));
}

// c = product, then times gelu'(pre), slab by slab.
template <class T>
void product_times_slope(const Gemm& shape, const GemmOperands& operands) {
  Gemm part = shape;
  part.epilogue = Epilogue::None;
  const std::int64_t step = shape.transpose_a ? shape.m : slab_rows<T>(shape);
  for (std::int64_t row = 0; row < shape.m; row += step) {
    part.m = std::min(step, shape.m - row);
    const Slab<T> slab{.rows = part.m,
                       .n = shape.n,
                       .bias = nullptr,
                       .addend = nullptr,
                       .pre = static_cast<T*>(operands.pre) + row * shape.n,
                       .c = static_cast<T*>(operands.c) + row * shape.n};
    product(part, static_cast<const T*>(operands.a) + row * shape.k,
            static_cast<const T*>(operands.b), slab.c);
    times_slope(slab);
  }
}

}  // namespace

template <class T>
void gemm(const Gemm& shape, const GemmOperands& operands) {
  const T* a = static_cast<const T*>(operands.a);
  const T* b = static_cast<const T*>(operands.b);
  T* c = static_cast<T*>(operands.c);
  if (shape.epilogue == Epilogue::None) return product(shape, a, b, c);
  if (shape.epilogue == Epilogue::BiasGrad) {
    column_sum<T>({.rows = shape.k, .cols = shape.m, .accumulate = shape.accumulate},
                  {.x = a, .out = operands.bias_grad});
    return product(shape, a, b, c);
  }
  if (shape.epilogue == Epilogue::GeluGrad) return product_times_slope<T>(shape, operands);
  const bool has_gelu = shape.epilogue == Epilogue::BiasGelu;
  T* pre = has_gelu && operands.pre != nullptr ? static_cast<T*>(operands.pre) : c;
  const T* addend =
      shape.epilogue == Epilogue::BiasResidual ? static_cast<const T*>(operands.addend) : nullptr;
  Gemm part = shape;
  part.accumulate = true;
  const std::int64_t step = has_gelu && !shape.transpose_a ? slab_rows<T>(shape) : shape.m;
  for (std::int64_t row = 0; row < shape.m; row += step) {
    part.m = std::min(step, shape.m - row);
    const std::int64_t at = row * shape.n;
    const Slab<T> slab{.rows = part.m,
                       .n = shape.n,
                       .bias = static_cast<const T*>(operands.bias),
                       .addend = addend != nullptr ? addend + at : nullptr,
                       .pre = pre + at,
                       .c = c + at};
    start(slab);
    product(part, a + row * shape.k, b, slab.pre);
    if (has_gelu) activate(slab);
  }
}
template void gemm<float>(const Gemm& shape, const GemmOperands& operands);
template void gemm<double>(const Gemm& shape, const GemmOperands& operands);

}  // namespace imhotep::kernels::cpu
