#include "kernels/distill.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void distill(const Queue& queue, const Distill& shape, const DistillOperands& operands) {
  require(shape.rows >= 0 && shape.cols >= 0, "distill", "negative rows or cols");
  require(shape.temperature > 0, "distill", "the temperature must be positive");
  require(operands.valid >= 0 && operands.valid <= shape.cols, "distill",
          "expected 0 <= valid <= cols");
  require(operands.dstudent == nullptr || operands.dstudent != operands.student, "distill",
          "dstudent cannot be student");
  if (on_cuda(queue, "distill", &CudaFamilies::distill, shape, operands)) return;
  on_cpu(queue, "distill", [&](auto zero) { cpu::distill<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
