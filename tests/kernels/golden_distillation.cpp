#include "kernels/distill.h"
#include "tests/kernels/golden_case.h"

namespace imhotep::golden {

// The gradient is beta tau / rows times a difference of probabilities, so that factor is its scale.
void check_distillation_case(Case& fields) {
  const std::int64_t rows = fields.get<std::int64_t>("batch") * fields.get<std::int64_t>("seq");
  const auto vocab = fields.get<std::int64_t>("vocab");
  const float temperature = fields.get_or("temp", 1.0F), beta = fields.get_or("beta", 1.0F);
  const auto student = fields.floats("student", rows * vocab);
  const auto teacher = fields.floats("teacher", rows * vocab);
  std::vector<float> gradient(rows * vocab);
  double loss = 0;
  kernels::distill(kernels::Queue{}, {rows, vocab, temperature, beta},
                   {.student = student.data(),
                    .teacher = teacher.data(),
                    .dstudent = gradient.data(),
                    .loss = &loss,
                    .scale = 1.0 / static_cast<double>(rows),
                    .valid = vocab});
  expect_close<double, double>("loss", {loss}, {fields.get<double>("loss")}, 1e-6, 1);
  for (float& value : gradient) value *= static_cast<float>(rows) / (beta * temperature);
  auto expected = fields.floats("dstudent", rows * vocab);
  for (float& value : expected) value *= static_cast<float>(rows) / (beta * temperature);
  expect_close("dstudent", gradient, expected, 1e-6, 1);
}

}  // namespace imhotep::golden
