#include "kernels/layer_norm.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void layer_norm(const Queue& queue, const LayerNorm& shape, const LayerNormOperands& operands) {
  require(shape.rows >= 0 && shape.hidden > 0, "layer_norm", "expected rows >= 0 and hidden > 0");
  if (on_cuda(queue, "layer_norm", &CudaFamilies::layer_norm, shape, operands)) return;
  on_cpu(queue, "layer_norm", [&](auto zero) { cpu::layer_norm<decltype(zero)>(shape, operands); });
}

void layer_norm_grad(const Queue& queue, const LayerNormGrad& shape,
                     const LayerNormGradOperands& operands) {
  require(shape.rows >= 0 && shape.hidden > 0, "layer_norm_grad",
          "expected rows >= 0 and hidden > 0");
  require(shape.rows == 0 || !shape.accumulate || operands.dx != operands.dy, "layer_norm_grad",
          "an accumulating dx cannot be dy");
  if (on_cuda(queue, "layer_norm_grad", &CudaFamilies::layer_norm_grad, shape, operands)) return;
  on_cpu(queue, "layer_norm_grad",
         [&](auto zero) { cpu::layer_norm_grad<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
