#include "kernels/update.h"

#include <cmath>

#include "kernels/select.h"

namespace imhotep::kernels {

void sum_squares(const Queue& queue, const SumSquares& shape, const SumSquaresOperands& operands) {
  require(shape.elements >= 0, "sum_squares", "negative elements");
  if (on_cuda(queue, "sum_squares", &CudaFamilies::sum_squares, shape, operands)) return;
  on_cpu(queue, "sum_squares",
         [&](auto zero) { cpu::sum_squares<decltype(zero)>(shape, operands); });
}

void clip_scale(const Queue& queue, const ClipScale& shape, const ClipScaleOperands& operands) {
  if (on_cuda(queue, "clip_scale", &CudaFamilies::clip_scale, shape, operands)) return;
  const double norm = std::sqrt(*operands.total);
  *operands.norm = norm;
  const double ratio = static_cast<double>(shape.limit) / (norm + 1e-6);
  *operands.factor = !std::isfinite(norm) ? 0.0 : shape.limit > 0 && ratio < 1 ? ratio : 1.0;
}

void adamw(const Queue& queue, const AdamW& shape, const AdamWOperands& operands) {
  require(shape.elements >= 0 && shape.decayed >= 0 && shape.decayed <= shape.elements, "adamw",
          "expected 0 <= decayed <= elements");
  require(operands.hyper.step >= 1, "adamw", "the first step is 1");
  if (on_cuda(queue, "adamw", &CudaFamilies::adamw, shape, operands)) return;
  if (operands.factor != nullptr && !(*operands.factor > 0)) return;
  on_cpu(queue, "adamw", [&](auto zero) { cpu::adamw<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
