#include "kernels/distill.h"

#include "core/base/error.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

constexpr Distill kShape{.rows = 4, .cols = 300, .temperature = 2.5F, .beta = 0.75F};
constexpr std::int64_t kValid = 283;
constexpr double kScale = 0.2;

template <class T>
double run(const std::vector<T>& student, const std::vector<T>& teacher, std::vector<T>* gradient,
           bool accumulate = false) {
  double loss = 0;
  distill(queue_of<T>(), kShape,
          {.student = student.data(),
           .teacher = teacher.data(),
           .dstudent = gradient == nullptr ? nullptr : gradient->data(),
           .loss = &loss,
           .scale = kScale,
           .valid = kValid,
           .accumulate = accumulate});
  return loss;
}

double by_definition(const std::vector<double>& student, const std::vector<double>& teacher) {
  double loss = 0;
  for (std::int64_t row = 0; row < kShape.rows; ++row) {
    double of_s = 0, of_t = 0;
    for (std::int64_t i = row * 300; i < row * 300 + kValid; ++i) {
      of_s += std::exp(student[i] / 2.5);
      of_t += std::exp(teacher[i] / 2.5);
    }
    for (std::int64_t i = row * 300; i < row * 300 + kValid; ++i) {
      const double p = std::exp(teacher[i] / 2.5) / of_t, q = std::exp(student[i] / 2.5) / of_s;
      loss += 0.75 * 2.5 * 2.5 * kScale * p * (std::log(p) - std::log(q));
    }
  }
  return loss;
}

TEST_CASE("the divergence equals its definition and vanishes between equals") {
  const auto student = Random(81).normals<double>(1200), teacher = Random(82).normals<double>(1200);
  CHECK(run<double>(student, teacher, nullptr) ==
        doctest::Approx(by_definition(student, teacher)).epsilon(1e-12));
  std::vector<double> gradient(1200, 9);
  CHECK(std::abs(run(student, student, &gradient)) < 1e-14);
  for (const double value : gradient) CHECK(std::abs(value) < 1e-16);
}

TEST_CASE(
    "distillation: the gradient agrees with central differences and is accumulated on demand") {
  auto student = Random(83).normals<double>(1200);
  const auto teacher = Random(84).normals<double>(1200);
  std::vector<double> gradient(1200, 9), added(1200, 9);
  run(student, teacher, &gradient);
  run(student, teacher, &added, true);
  const auto numeric =
      numeric_gradient(student, [&] { return run<double>(student, teacher, nullptr); });
  CHECK(scaled_error(gradient, numeric) < 1e-6);
  for (double& value : added) value -= 9;
  CHECK(scaled_error(added, gradient) < 1e-10);

  std::vector<float> single(1200);
  const double loss = run(cast<float>(student), cast<float>(teacher), &single);
  CHECK(loss == doctest::Approx(run<double>(student, teacher, nullptr)).epsilon(1e-6));
  CHECK(scaled_error(single, gradient) < 2e-6);
}

TEST_CASE("distillation refuses a temperature of zero and more valid columns than there are") {
  const std::vector<float> logits(8);
  double loss = 0;
  const auto with = [&](float temperature, std::int64_t valid) {
    distill(queue_of<float>(), {2, 4, temperature, 1},
            {.student = logits.data(), .teacher = logits.data(), .loss = &loss, .valid = valid});
  };
  CHECK_THROWS_AS(with(0, 4), Error);
  CHECK_THROWS_AS(with(1, 5), Error);
  with(1, 0);
  CHECK(loss == 0);
}

}  // namespace
}  // namespace imhotep::kernels::test
