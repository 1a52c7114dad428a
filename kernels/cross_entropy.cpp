#include "kernels/cross_entropy.h"

#include "core/base/fail.h"
#include "kernels/select.h"

namespace imhotep::kernels {

void softmax_stats(const Queue& queue, const SoftmaxStats& shape,
                   const SoftmaxStatsOperands& operands) {
  require(shape.rows >= 0 && shape.cols >= 0, "softmax_stats", "negative rows or cols");
  if (on_cuda(queue, "softmax_stats", &CudaFamilies::softmax_stats, shape, operands)) return;
  on_cpu(queue, "softmax_stats", [&](auto zero) {
    for (std::int64_t row = 0; row < shape.rows; ++row) {
      if (operands.targets[row] >= shape.valid) {
        fail("softmax_stats: row {}: expected a target below {}, got {}", row, shape.valid,
             operands.targets[row]);
      }
    }
    cpu::softmax_stats<decltype(zero)>(shape, operands);
  });
}

void cross_entropy(const Queue& queue, const CrossEntropy& shape,
                   const CrossEntropyOperands& operands) {
  require(shape.rows >= 0 && shape.cols >= 0 && shape.parts > 0, "cross_entropy",
          "expected rows, cols >= 0 and parts > 0");
  if (on_cuda(queue, "cross_entropy", &CudaFamilies::cross_entropy, shape, operands)) return;
  on_cpu(queue, "cross_entropy",
         [&](auto zero) { cpu::cross_entropy<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
