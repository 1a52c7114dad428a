#include "kernels/attention.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void attention(const Queue& queue, const Attention& shape, const AttentionOperands& operands) {
  require(shape.batch >= 0 && shape.heads >= 0 && shape.sequence >= 0 && shape.head_dim > 0,
          "attention", "expected batch, heads, sequence >= 0 and head_dim > 0");
  if (on_cuda(queue, "attention", &CudaFamilies::attention, shape, operands)) return;
  on_cpu(queue, "attention", [&](auto zero) { cpu::attention<decltype(zero)>(shape, operands); });
}

void attention_grad(const Queue& queue, const AttentionGrad& shape,
                    const AttentionGradOperands& operands) {
  require(shape.batch >= 0 && shape.heads >= 0 && shape.sequence >= 0 && shape.head_dim > 0,
          "attention_grad", "expected batch, heads, sequence >= 0 and head_dim > 0");
  if (on_cuda(queue, "attention_grad", &CudaFamilies::attention_grad, shape, operands)) return;
  on_cpu(queue, "attention_grad",
         [&](auto zero) { cpu::attention_grad<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
