#include "kernels/combine.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void combine(const Queue& queue, const Combine& shape, const CombineOperands& operands) {
  require(shape.k >= 1 && shape.copies >= 1, "combine", "k and copies must be positive");
  if (on_cuda(queue, "combine", &CudaFamilies::combine, shape, operands)) return;
  on_cpu(queue, "combine", [&](auto zero) { cpu::combine<decltype(zero)>(shape, operands); });
}

void combine_grad(const Queue& queue, const CombineGrad& shape,
                  const CombineGradOperands& operands) {
  require(shape.k >= 1 && shape.copies >= 1, "combine_grad", "k and copies must be positive");
  if (on_cuda(queue, "combine_grad", &CudaFamilies::combine_grad, shape, operands)) return;
  on_cpu(queue, "combine_grad",
         [&](auto zero) { cpu::combine_grad<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
