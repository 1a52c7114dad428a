#pragma once
// Matrix products of OpenBLAS with a type-safe face. For a product with an epilogue, or with few
// rows, call the family in kernels/gemm.h, which chooses the fastest way.

#include <cblas.h>

#include <cstdint>

namespace imhotep::kernels::blas {

struct Product {
  std::int64_t m = 0, n = 0, k = 0;
};

// A row-major matrix: `stride` elements from one stored row to the next. Transposed: the stored
// matrix is the transpose of the one meant.
template <class T>
struct Factor {
  const T* data = nullptr;
  std::int64_t stride = 0;
  bool transposed = false;
};
template <class T>
struct Result {
  T* data = nullptr;
  std::int64_t stride = 0;
};

// c[m,n] = alpha a[m,k] b[k,n] + beta c, with beta 0 or 1; with beta 0, c is not read.
// Requires: every size and stride below 2^31. Products without elements are left to the caller.
inline void gemm(Product p, float alpha, Factor<float> a, Factor<float> b, float beta,
                 Result<float> c) {
  cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
              b.transposed ? CblasTrans : CblasNoTrans, static_cast<int>(p.m),
              static_cast<int>(p.n), static_cast<int>(p.k), alpha, a.data,
              static_cast<int>(a.stride), b.data, static_cast<int>(b.stride), beta, c.data,
              static_cast<int>(c.stride));
}
inline void gemm(Product p, double alpha, Factor<double> a, Factor<double> b, double beta,
                 Result<double> c) {
  cblas_dgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
              b.transposed ? CblasTrans : CblasNoTrans, static_cast<int>(p.m),
              static_cast<int>(p.n), static_cast<int>(p.k), alpha, a.data,
              static_cast<int>(a.stride), b.data, static_cast<int>(b.stride), beta, c.data,
              static_cast<int>(c.stride));
}

}  // namespace imhotep::kernels::blas
