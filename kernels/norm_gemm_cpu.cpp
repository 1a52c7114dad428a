// A layer norm and a product, one after the other.

#include "kernels/norm_gemm.h"

#include <vector>

#include "kernels/gemm.h"
#include "kernels/layer_norm.h"

namespace imhotep::kernels::cpu {

template <class T>
void norm_gemm(const NormGemm& s, const NormGemmOperands& o) {
  std::vector<T> n(static_cast<std::size_t>(s.rows * s.k));
  std::vector<T> moments(static_cast<std::size_t>(2 * s.rows));
  layer_norm<T>({s.rows, s.k}, {.x = o.x,
                                .gain = o.gain,
                                .bias = o.shift,
                                .y = n.data(),
                                .mean = moments.data(),
                                .rstd = moments.data() + s.rows});
  gemm<T>({.m = s.rows, .n = s.n, .k = s.k, .transpose_b = true, .epilogue = s.epilogue},
          {.a = n.data(), .b = o.b, .bias = o.bias, .c = o.c});
}
template void norm_gemm<float>(const NormGemm& shape, const NormGemmOperands& operands);
template void norm_gemm<double>(const NormGemm& shape, const NormGemmOperands& operands);

}  // namespace imhotep::kernels::cpu
