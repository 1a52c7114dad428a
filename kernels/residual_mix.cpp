#include "kernels/residual_mix.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void residual_mix(const Queue& queue, const ResidualMix& shape,
                  const ResidualMixOperands& operands) {
  on_cpu(queue, "residual_mix",
         [&](auto zero) { cpu::residual_mix<decltype(zero)>(shape, operands); });
}

void residual_mix_grad(const Queue& queue, const ResidualMixGrad& shape,
                       const ResidualMixGradOperands& operands) {
  on_cpu(queue, "residual_mix_grad",
         [&](auto zero) { cpu::residual_mix_grad<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
