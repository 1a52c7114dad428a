#include "kernels/residual_mix.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void residual_mix(const Queue& queue, const ResidualMix& shape,
                  const ResidualMixOperands& operands) {
  if (on_cuda(queue, "residual_mix", &CudaFamilies::residual_mix, shape, operands)) return;
  on_cpu(queue, "residual_mix",
         [&](auto zero) { cpu::residual_mix<decltype(zero)>(shape, operands); });
}

void residual_mix_grad(const Queue& queue, const ResidualMixGrad& shape,
                       const ResidualMixGradOperands& operands) {
  if (on_cuda(queue, "residual_mix_grad", &CudaFamilies::residual_mix_grad, shape, operands))
    return;
  on_cpu(queue, "residual_mix_grad",
         [&](auto zero) { cpu::residual_mix_grad<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
