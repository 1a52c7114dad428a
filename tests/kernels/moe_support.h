#pragma once
// Shared by the MoE kernel tests: seeded data, central differences, comparison by scale.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "kernels/queue.h"

namespace imhotep::kernels::test {

using Table = std::vector<std::int32_t>;

template <class T>
[[nodiscard]] constexpr Queue queue_of() {
  return {Device::Cpu, sizeof(T) == 8 ? Dtype::F64 : Dtype::F32, nullptr};
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  template <class T>
  std::vector<T> normals(std::int64_t count) {
    std::normal_distribution<double> draw;
    std::vector<T> values(count);
    for (T& value : values) value = static_cast<T>(draw(engine_));
    return values;
  }
  std::vector<double> uniforms(std::int64_t count) {
    std::uniform_real_distribution<double> draw;
    std::vector<double> values(count);
    for (double& value : values) value = draw(engine_);
    return values;
  }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  Table table(std::int64_t count, std::int64_t low, std::int64_t high) {
    Table values(count);
    for (auto& value : values) value = static_cast<std::int32_t>(between(low, high));
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

template <class To, class From>
[[nodiscard]] std::vector<To> cast(const std::vector<From>& from) {
  return {from.begin(), from.end()};
}

template <class T>
[[nodiscard]] double dot(const std::vector<T>& a, const std::vector<T>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return sum;
}

// Largest difference divided by the largest magnitude expected (at least `floor`).
template <class A, class B>
[[nodiscard]] double scaled_error(const std::vector<A>& got, const std::vector<B>& expected,
                                  double floor = 1e-30) {
  REQUIRE(got.size() == expected.size());
  double scale = floor, error = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto want = static_cast<double>(expected[i]);
    const double difference = std::abs(static_cast<double>(got[i]) - want);
    scale = std::max(scale, std::abs(want));
    if (!(difference <= error)) error = difference;  // a NaN stays
  }
  return error / scale;
}

// Central differences of `loss` in every element of `x`.
[[nodiscard]] inline std::vector<double> numeric_gradient(std::vector<double>& x,
                                                          const std::function<double()>& loss,
                                                          double step = 1e-5) {
  std::vector<double> gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i];
    x[i] = kept + step;
    const double above = loss();
    x[i] = kept - step;
    const double below = loss();
    x[i] = kept;
    gradient[i] = (above - below) / (2 * step);
  }
  return gradient;
}

}  // namespace imhotep::kernels::test
