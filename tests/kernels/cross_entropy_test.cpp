#include "kernels/cross_entropy.h"

#include "core/base/error.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

constexpr std::int64_t kRows = 5, kValid = 29;
const Table kTargets = {0, 28, -1, 13, 20};
constexpr double kScale = 0.25;

template <class T>
struct Result {
  std::vector<T> logits, logprob;  // logits [rows, parts * cols]: gradients afterwards
  double loss = 0;
};

// Divides the columns of `all` [rows, parts * cols] as ranks do.
template <class T>
Result<T> run(const std::vector<T>& all, std::int64_t parts, bool gradient) {
  const auto total = static_cast<std::int64_t>(all.size()) / kRows, cols = total / parts;
  std::vector<std::vector<T>> local(parts, std::vector<T>(kRows * cols));
  std::vector<T> stats(parts * kRows * 3);
  for (std::int64_t part = 0; part < parts; ++part) {
    for (std::int64_t i = 0; i < kRows * cols; ++i) {
      local[part][i] = all[i / cols * total + part * cols + i % cols];
    }
    softmax_stats(queue_of<T>(), {kRows, cols, part * cols, kValid},
                  {local[part].data(), kTargets.data(), stats.data() + part * kRows * 3});
  }
  Result<T> out{std::vector<T>(all.size()), std::vector<T>(kRows), 0};
  for (std::int64_t part = 0; part < parts; ++part) {
    out.loss = 100;
    cross_entropy(queue_of<T>(), {kRows, cols, parts, part * cols, kValid, gradient},
                  {stats.data(), kTargets.data(), gradient ? local[part].data() : nullptr,
                   out.logprob.data(), &out.loss, kScale});
    for (std::int64_t i = 0; i < kRows * cols; ++i) {
      out.logits[i / cols * total + part * cols + i % cols] = local[part][i];
    }
  }
  out.loss -= 100;
  return out;
}

TEST_CASE("log probabilities and the loss equal their definition") {
  const auto logits = Random(71).normals<double>(kRows * 32);
  const auto got = run(logits, 1, false);
  double loss = 0;
  for (std::int64_t row = 0; row < kRows; ++row) {
    double sum = 0;
    for (std::int64_t i = 0; i < kValid; ++i) sum += std::exp(logits[row * 32 + i]);
    const double expected =
        kTargets[row] < 0 ? 0 : logits[row * 32 + kTargets[row]] - std::log(sum);
    CHECK(got.logprob[row] == doctest::Approx(expected).epsilon(1e-12));
    loss -= expected;
  }
  CHECK(got.loss == doctest::Approx(loss).epsilon(1e-12));
}

TEST_CASE("the gradient of the loss agrees with central differences, padding has none") {
  for (const std::int64_t parts : {1, 2, 4}) {
    CAPTURE(parts);
    auto logits = Random(72).normals<double>(kRows * 32);
    const auto got = run(logits, parts, true);
    auto numeric = numeric_gradient(logits, [&] { return run(logits, parts, false).loss; });
    for (double& value : numeric) value *= kScale;
    CHECK(scaled_error(got.logits, numeric) < 1e-6);
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t i = kValid; i < 32; ++i) CHECK(got.logits[row * 32 + i] == 0);
    }
  }
}

TEST_CASE("a divided vocabulary gives what a whole one gives, and float what double gives") {
  const auto logits = Random(73).normals<double>(kRows * 48);  // the last part has no valid column
  const auto whole = run(logits, 1, true);
  for (const std::int64_t parts : {2, 3, 6}) {
    const auto divided = run(logits, parts, true);
    CHECK(divided.loss == doctest::Approx(whole.loss).epsilon(1e-13));
    CHECK(scaled_error(divided.logits, whole.logits) < 1e-13);
    const auto single = run(cast<float>(logits), parts, true);
    CHECK(single.loss == doctest::Approx(whole.loss).epsilon(1e-6));
    CHECK(scaled_error(single.logits, whole.logits) < 1e-6);
  }
}

TEST_CASE("large logits do not overflow") {
  auto logits = Random(74).normals<float>(kRows * 32);
  for (float& value : logits) value = 1e4F * value + 3e4F;
  const auto got = run(logits, 2, true);
  CHECK(std::isfinite(got.loss));
  for (const float value : got.logits) CHECK(std::abs(value) <= kScale);
}

TEST_CASE("a target outside the vocabulary is refused") {
  const Table targets = {3, 8};
  const std::vector<float> logits(16);
  std::vector<float> stats(6);
  CHECK_THROWS_WITH_AS(
      softmax_stats(queue_of<float>(), {2, 8, 0, 8}, {logits.data(), targets.data(), stats.data()}),
      "softmax_stats: row 1: expected a target below 8, got 8", Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
