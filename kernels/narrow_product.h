#pragma once
// A matrix with a handful of rows times the transpose of a tall one, which is read as fast as
// memory delivers it: the product of decoding. A BLAS copies the tall matrix into its own
// layout first, which costs several times the product.

#include <cstdint>

namespace imhotep::kernels::cpu {

// Up to so many rows this beats the BLAS.
inline constexpr std::int64_t kNarrowRows = 24;

// c[i * few_step + j * tall_step] (+)= sum over k of few[i, k] * tall[j, k].
template <class T>
struct NarrowProduct {
  std::int64_t few_rows = 0;
  std::int64_t tall_rows = 0;
  std::int64_t depth = 0;
  const T* few = nullptr;   // [few_rows, depth]
  const T* tall = nullptr;  // [tall_rows, depth]
  T* c = nullptr;
  std::int64_t few_step = 0, tall_step = 1;
  bool accumulate = false;
};

void narrow_product(const NarrowProduct<float>& p);
void narrow_product(const NarrowProduct<double>& p);

}  // namespace imhotep::kernels::cpu
