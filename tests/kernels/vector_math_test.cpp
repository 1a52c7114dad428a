#include "kernels/vector_math.h"

#include <limits>

#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

TEST_CASE("the vectorisable exp is as exact as a float allows") {
  double worst = 0;
  for (double x = -87.3; x < 88.3; x += 0.00037) {
    const auto argument = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(argument));
    worst = std::max(worst, std::abs(static_cast<double>(fast_exp(argument)) - exact) / exact);
  }
  CHECK(worst < 2e-7);
  CHECK(fast_exp(0.0F) == 1.0F);
  CHECK(fast_exp(-100.0F) == 0.0F);
  CHECK(fast_exp(-std::numeric_limits<float>::infinity()) == 0.0F);
  CHECK(std::isnan(fast_exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("GELU equals its definition by tanh, and its slope the central difference") {
  for (double x = -12; x <= 12; x += 0.0371) {
    const double u = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
    CHECK(std::abs(gelu(x) - 0.5 * x * (1 + std::tanh(u))) < 1e-14);
    CHECK(std::abs(static_cast<double>(gelu(static_cast<float>(x))) - gelu(x)) < 2e-6);
    const double slope = (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
    CHECK(std::abs(gelu_derivative(x) - slope) < 1e-9);
    CHECK(std::abs(static_cast<double>(gelu_derivative(static_cast<float>(x))) - slope) < 2e-6);
  }
  CHECK(gelu(1000.0F) == 1000.0F);
  CHECK(std::abs(gelu(-1000.0F)) < 1e-30F);
  CHECK(gelu_derivative(-1000.0F) == doctest::Approx(0));
  CHECK(std::isnan(gelu(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace imhotep::kernels::test
