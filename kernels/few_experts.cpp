#include "kernels/few_experts.h"

#include "kernels/route.h"
#include "kernels/select.h"

namespace imhotep::kernels {

void few_experts_up(const Queue& queue, const FewExpertsUp& shape,
                    const FewExpertsUpOperands& operands) {
  const char* family = "few_experts_up";
  require(
      shape.tokens >= 0 && shape.k >= 1 && shape.k <= shape.experts && shape.experts <= kMaxExperts,
      family, "expected 1 <= k <= experts <= 1024");
  if (on_cuda(queue, family, &CudaFamilies::few_experts_up, shape, operands)) return;
  on_cpu(queue, family, [&](auto zero) { cpu::few_experts_up<decltype(zero)>(shape, operands); });
}

void few_experts_down(const Queue& queue, const FewExpertsDown& shape,
                      const FewExpertsDownOperands& operands) {
  const char* family = "few_experts_down";
  require(!shape.residual || (operands.mlp_hidden != nullptr && operands.mlp_down != nullptr &&
                              operands.coefficients != nullptr),
          family, "a residual branch needs its operands");
  if (shape.tokens == 0) return;
  if (on_cuda(queue, family, &CudaFamilies::few_experts_down, shape, operands)) return;
  on_cpu(queue, family, [&](auto zero) { cpu::few_experts_down<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
