#include "kernels/sample.h"

#include "core/base/fail.h"
#include "kernels/select.h"

namespace imhotep::kernels {

void sample(const Queue& queue, const Sample& shape, const SampleOperands& operands) {
  require(shape.rows >= 0 && shape.cols >= 0 && shape.parts > 0, "sample",
          "expected rows, cols >= 0 and parts > 0");
  require(shape.valid > 0 && shape.valid <= shape.parts * shape.cols, "sample",
          "expected 0 < valid <= parts * cols");
  if (on_cuda(queue, "sample", &CudaFamilies::sample, shape, operands)) return;
  on_cpu(queue, "sample", [&](auto zero) {
    for (std::int64_t row = 0; row < shape.rows; ++row) {
      const double temperature = operands.parameters[row].temperature;
      if (!(temperature >= 0)) {
        fail("sample: row {}: expected a temperature >= 0, got {}", row, temperature);
      }
    }
    cpu::sample<decltype(zero)>(shape, operands);
  });
}

}  // namespace imhotep::kernels
