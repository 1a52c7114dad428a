#include "kernels/norm_gate.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void norm_gate(const Queue& queue, const NormGate& shape, const NormGateOperands& operands) {
  const char* family = "norm_gate";
  require(shape.rows >= 0 && shape.hidden > 0 && shape.experts > 0 && shape.mlp >= 0, family,
          "expected rows, mlp >= 0, hidden, experts > 0");
  require(shape.mlp == 0 || (operands.coefficient != nullptr && operands.up != nullptr), family,
          "a residual branch needs its weights");
  if (shape.rows == 0) return;
  if (on_cuda(queue, family, &CudaFamilies::norm_gate, shape, operands)) return;
  on_cpu(queue, family, [&](auto zero) { cpu::norm_gate<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
