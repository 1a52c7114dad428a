// A layer norm and up to three products.

#include "kernels/norm_gate.h"

#include <vector>

#include "kernels/gemm.h"
#include "kernels/layer_norm.h"

namespace imhotep::kernels::cpu {

template <class T>
void norm_gate(const NormGate& s, const NormGateOperands& o) {
  std::vector<T> moments(static_cast<std::size_t>(2 * s.rows));
  layer_norm<T>({s.rows, s.hidden}, {.x = o.x,
                                     .gain = o.gain,
                                     .bias = o.shift,
                                     .y = o.n,
                                     .mean = moments.data(),
                                     .rstd = moments.data() + s.rows});
  const Gemm product{.m = s.rows, .n = s.experts, .k = s.hidden, .transpose_b = true};
  gemm<T>(product, {.a = o.n, .b = o.gate, .c = o.logits});
  if (o.noise != nullptr) {
    const T* noise = static_cast<const T*>(o.noise);
    T* logits = static_cast<T*>(o.logits);
    for (std::int64_t i = 0; i < s.rows * s.experts; ++i) logits[i] += noise[i];
  }
  if (s.mlp == 0) return;
  Gemm coefficient = product, up = product;
  coefficient.n = 2;
  coefficient.epilogue = Epilogue::Bias;
  gemm<T>(coefficient,
          {.a = o.n, .b = o.coefficient, .bias = o.coefficient_bias, .c = o.coefficients});
  up.n = s.mlp;
  up.epilogue = Epilogue::BiasGelu;
  gemm<T>(up, {.a = o.n, .b = o.up, .bias = o.up_bias, .c = o.mlp_hidden});
}
template void norm_gate<float>(const NormGate& shape, const NormGateOperands& operands);
template void norm_gate<double>(const NormGate& shape, const NormGateOperands& operands);

}  // namespace imhotep::kernels::cpu
