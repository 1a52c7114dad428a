#include "kernels/update.h"

#include "core/base/error.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

TEST_CASE("squares are summed in double, scaled and added") {
  for (const std::int64_t count : {0, 1, 7, 16, 1000}) {
    const auto x = Random(91).normals<float>(count);
    double total = 3, expected = 3;
    for (const float value : x) expected += 0.5 * static_cast<double>(value) * value;
    sum_squares(queue_of<float>(), {count, 0.5}, {x.data(), &total});
    CHECK(total == doctest::Approx(expected).epsilon(1e-13));
  }
  const std::vector<float> large(20, 1e30F);
  double total = 0;
  sum_squares(queue_of<float>(), {20, 1}, {large.data(), &total});
  CHECK(total == doctest::Approx(2e61));
}

TEST_CASE("the clipping factor limits the norm and never enlarges it") {
  double norm = 0, factor = 0;
  const auto clip = [&](double total, float limit) {
    clip_scale(queue_of<float>(), {limit}, {&total, &norm, &factor});
  };
  clip(100, 1);
  CHECK(norm == 10);
  CHECK(factor == doctest::Approx(0.1).epsilon(1e-6));
  clip(0.25, 1);
  CHECK(factor == 1);
  clip(100, 0);
  CHECK(factor == 1);
  clip(std::nan(""), 1);
  CHECK(factor == 0);
  clip(std::nan(""), 0);
  CHECK(factor == 0);
  clip(HUGE_VAL, 1);
  CHECK(factor == 0);
}

TEST_CASE("a gradient whose norm is not finite leaves weights and moments as they were") {
  for (const double factor : {0.0, std::nan("")}) {
    std::vector<double> weight(9, 1), m(9, 2), v(9, 3), grad(9, std::nan(""));
    adamw(queue_of<double>(), {9, 9},
          {.grad = grad.data(),
           .factor = &factor,
           .weight = weight.data(),
           .m = m.data(),
           .v = v.data(),
           .hyper = {.lr = 0.125, .weight_decay = 0.1}});
    CHECK(weight == std::vector<double>(9, 1));
    CHECK(m == std::vector<double>(9, 2));
    CHECK(v == std::vector<double>(9, 3));
  }
}

struct State {
  std::vector<double> weight, m, v;
};

void by_definition(State& state, const std::vector<double>& grad, std::int64_t decayed,
                   double factor, const AdamWHyper& h) {
  const auto steps = static_cast<double>(h.step);
  for (std::size_t i = 0; i < grad.size(); ++i) {
    const double g = factor * grad[i];
    state.m[i] = h.beta1 * state.m[i] + (1 - h.beta1) * g;
    state.v[i] = h.beta2 * state.v[i] + (1 - h.beta2) * g * g;
    const double m_hat = state.m[i] / (1 - std::pow(h.beta1, steps));
    const double v_hat = state.v[i] / (1 - std::pow(h.beta2, steps));
    if (static_cast<std::int64_t>(i) < decayed) state.weight[i] *= 1 - h.lr * h.weight_decay;
    state.weight[i] -= h.lr * m_hat / (std::sqrt(v_hat) + h.eps);
  }
}

template <class T>
void check_adamw(double tolerance) {
  const std::int64_t count = 53, decayed = 21;
  State expected{Random(92).normals<double>(count), std::vector<double>(count),
                 std::vector<double>(count)};
  auto weight = cast<T>(expected.weight);
  std::vector<T> m(count), v(count);
  for (std::int64_t step = 1; step <= 5; ++step) {
    const auto grad = Random(93 + step).normals<double>(count);
    const auto grad_cast = cast<T>(grad);
    const AdamWHyper hyper{.lr = 1e-2, .eps = 1e-6, .weight_decay = 0.1, .step = step};
    const double factor = step == 1 ? 1 : 0.3;
    by_definition(expected, grad, decayed, factor, hyper);
    adamw(queue_of<T>(), {count, decayed},
          {.grad = grad_cast.data(),
           .factor = step == 1 ? nullptr : &factor,
           .weight = weight.data(),
           .m = m.data(),
           .v = v.data(),
           .hyper = hyper});
    CHECK(scaled_error(weight, expected.weight) < tolerance);
    CHECK(scaled_error(m, expected.m) < tolerance);
    CHECK(scaled_error(v, expected.v) < tolerance);
  }
}

TEST_CASE("AdamW follows its algorithm, decay only where asked") {
  check_adamw<double>(1e-14);
  check_adamw<float>(2e-6);
}

TEST_CASE("the first step of AdamW moves each weight by the learning rate against its gradient") {
  std::vector<double> weight(9, 1), m(9), v(9), grad(9, -7);
  adamw(queue_of<double>(), {9, 0},
        {.grad = grad.data(),
         .weight = weight.data(),
         .m = m.data(),
         .v = v.data(),
         .hyper = {.lr = 0.125}});
  for (const double value : weight) CHECK(value == doctest::Approx(1.125).epsilon(1e-8));
}

TEST_CASE("AdamW refuses step 0 and more decayed elements than there are") {
  CHECK_THROWS_AS(adamw(queue_of<float>(), {0, 0}, {.hyper = {.step = 0}}), Error);
  CHECK_THROWS_AS(adamw(queue_of<float>(), {4, 5}, {}), Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
