#include "kernels/grouped_gemm.h"

#include <limits>

#include "core/base/error.h"
#include "kernels/vector_math.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

struct Sizes {
  Table offsets;
  std::int64_t n = 0, k = 0;

  [[nodiscard]] std::int64_t experts() const {
    return static_cast<std::int64_t>(offsets.size()) - 1;
  }
  [[nodiscard]] std::int64_t rows() const { return offsets.back(); }
  [[nodiscard]] GroupedGemm shape(GroupedMode mode, Epilogue epilogue = Epilogue::None) const {
    return {.mode = mode,
            .rows = {rows() + 2, 0},
            .experts = experts(),
            .n = n,
            .k = k,
            .epilogue = epilogue};
  }
};

// Experts without rows, with one, with few and with many; odd widths.
const std::vector<Sizes> kSizes{
    {{0, 0, 1, 1, 4}, 5, 3}, {{0, 8, 17, 17, 60, 61}, 33, 19},
    {{0, 0, 0}, 4, 4},       {{0, 2}, 64, 48},
    {{0, 300, 305}, 24, 17}, {{0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 78, 103}, 37, 40}};

template <class T>
struct Layer {
  Sizes sizes;
  std::vector<T> in, weight, bias;

  Layer(const Sizes& s, Random& random)
      : sizes(s),
        in(random.normals<T>(s.rows() * s.k)),
        weight(random.normals<T>(s.experts() * s.n * s.k)),
        bias(random.normals<T>(s.experts() * s.n)) {}

  struct Output {
    std::vector<T> pre, out;
  };
  [[nodiscard]] Output run(Epilogue epilogue) const {
    const std::int64_t elements = sizes.rows() * sizes.n;
    Output y{std::vector<T>(elements, T(-9)), std::vector<T>(elements, T(-9))};
    grouped_gemm(queue_of<T>(), sizes.shape(GroupedMode::Forward, epilogue),
                 {.expert_offsets = sizes.offsets.data(),
                  .in = in.data(),
                  .weight = weight.data(),
                  .bias = bias.data(),
                  .pre = y.pre.data(),
                  .out = y.out.data()});
    return y;
  }
};

std::vector<double> naive(const Layer<double>& layer, bool with_bias) {
  const Sizes& s = layer.sizes;
  std::vector<double> out(s.rows() * s.n);
  for (std::int64_t e = 0; e < s.experts(); ++e) {
    for (std::int64_t r = s.offsets[e]; r < s.offsets[e + 1]; ++r) {
      for (std::int64_t j = 0; j < s.n; ++j) {
        double sum = with_bias ? layer.bias[e * s.n + j] : 0.0;
        for (std::int64_t i = 0; i < s.k; ++i) {
          sum += layer.in[r * s.k + i] * layer.weight[(e * s.n + j) * s.k + i];
        }
        out[r * s.n + j] = sum;
      }
    }
  }
  return out;
}

TEST_CASE("the grouped product is one plain product an expert") {
  for (const Sizes& sizes : kSizes) {
    CAPTURE(sizes.n);
    Random random(7), again(7);
    const Layer<double> layer(sizes, random);
    const Layer<float> single(sizes, again);
    CHECK(scaled_error(layer.run(Epilogue::None).out, naive(layer, false)) < 1e-13);
    CHECK(scaled_error(layer.run(Epilogue::Bias).out, naive(layer, true)) < 1e-13);
    CHECK(scaled_error(single.run(Epilogue::Bias).out, naive(layer, true)) < 1e-5);
    const auto activated = layer.run(Epilogue::BiasGelu);
    CHECK(scaled_error(activated.pre, naive(layer, true)) < 1e-13);
    std::vector<double> gelu = activated.pre;
    for (double& x : gelu) {
      x *= 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    CHECK(scaled_error(activated.out, gelu) < 1e-12);
    CHECK(scaled_error(single.run(Epilogue::BiasGelu).out, gelu) < 1e-5);
  }
}

TEST_CASE("a slicing peer without a bias adds none") {
  Random random(2);
  Layer<double> layer(kSizes[1], random);
  std::vector<double> out(layer.sizes.rows() * layer.sizes.n);
  grouped_gemm(queue_of<double>(), layer.sizes.shape(GroupedMode::Forward, Epilogue::Bias),
               {.expert_offsets = layer.sizes.offsets.data(),
                .in = layer.in.data(),
                .weight = layer.weight.data(),
                .out = out.data()});
  CHECK(scaled_error(out, naive(layer, false)) < 1e-13);
}

TEST_CASE("both gradients of the grouped product agree with central differences") {
  for (const Sizes& sizes : {kSizes[0], kSizes[2], Sizes{{0, 9, 9, 11}, 7, 5}}) {
    CAPTURE(sizes.n);
    Random random(3);
    Layer<double> layer(sizes, random);
    const auto d = random.normals<double>(sizes.rows() * sizes.n);
    const auto loss = [&] { return dot(layer.run(Epilogue::Bias).out, d); };
    std::vector<double> d_in(layer.in.size(), -9), d_weight(layer.weight.size(), 0.5);
    std::vector<double> d_bias(layer.bias.size(), 0.5);
    grouped_gemm(queue_of<double>(), sizes.shape(GroupedMode::GradInput),
                 {.expert_offsets = sizes.offsets.data(),
                  .in = d.data(),
                  .weight = layer.weight.data(),
                  .out = d_in.data()});
    grouped_gemm(queue_of<double>(), sizes.shape(GroupedMode::GradWeight),
                 {.expert_offsets = sizes.offsets.data(),
                  .in = d.data(),
                  .activation = layer.in.data(),
                  .d_weight = d_weight.data()});
    grouped_column_sum(queue_of<double>(), {{sizes.rows(), 0}, sizes.experts(), sizes.n},
                       {sizes.offsets.data(), d.data(), d_bias.data()});
    for (double& x : d_weight) x -= 0.5;  // both accumulate
    for (double& x : d_bias) x -= 0.5;
    CHECK(scaled_error(d_in, numeric_gradient(layer.in, loss)) < 1e-6);
    CHECK(scaled_error(d_weight, numeric_gradient(layer.weight, loss), 1e-3) < 1e-6);
    CHECK(scaled_error(d_bias, numeric_gradient(layer.bias, loss), 1e-3) < 1e-6);
  }
}

TEST_CASE("the gradient through GELU is the gradient of the input times its slope") {
  const Sizes sizes{{0, 9, 9, 11}, 7, 5};
  Random random(4);
  const Layer<double> layer(sizes, random);
  const auto d = random.normals<double>(sizes.rows() * sizes.n);
  auto pre = random.normals<double>(sizes.rows() * sizes.k);
  const auto value = [&] {
    Layer<double> next = layer;
    for (std::size_t i = 0; i < pre.size(); ++i) next.in[i] = gelu(pre[i]);
    return dot(next.run(Epilogue::Bias).out, d);
  };
  std::vector<double> d_pre(pre.size(), -9);
  grouped_gemm(queue_of<double>(), sizes.shape(GroupedMode::GradInput, Epilogue::GeluGrad),
               {.expert_offsets = sizes.offsets.data(),
                .in = d.data(),
                .weight = layer.weight.data(),
                .pre = pre.data(),
                .out = d_pre.data()});
  CHECK(scaled_error(d_pre, numeric_gradient(pre, value)) < 1e-6);
}

TEST_CASE("weight gradients that do not accumulate are written whole") {
  const Sizes sizes{{0, 3, 3, 5}, 6, 4};
  Random random(6);
  const auto d = random.normals<double>(sizes.rows() * sizes.n);
  const auto a = random.normals<double>(sizes.rows() * sizes.k);
  std::vector<double> added(72, 0.0), written(72, std::numeric_limits<double>::quiet_NaN());
  GroupedGemm shape = sizes.shape(GroupedMode::GradWeight);
  for (auto* out : {&added, &written}) {
    shape.accumulate = out == &added;
    grouped_gemm(queue_of<double>(), shape,
                 {.expert_offsets = sizes.offsets.data(),
                  .in = d.data(),
                  .activation = a.data(),
                  .d_weight = out->data()});
  }
  CHECK(written == added);
}

TEST_CASE("experts without rows are neither read nor written") {
  const Sizes sizes{{0, 3, 3, 5}, 6, 4};
  Random random(5);
  Layer<float> layer(sizes, random);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::fill_n(layer.weight.begin() + 24, 24, nan);
  std::fill_n(layer.bias.begin() + 6, 6, nan);
  for (const float value : layer.run(Epilogue::BiasGelu).out) REQUIRE(std::isfinite(value));
  const auto d = random.normals<float>(sizes.rows() * sizes.n);
  std::vector<float> d_weight(72, 1.0F);
  std::fill_n(d_weight.begin() + 24, 24, nan);
  grouped_gemm(queue_of<float>(), sizes.shape(GroupedMode::GradWeight),
               {.expert_offsets = sizes.offsets.data(),
                .in = d.data(),
                .activation = layer.in.data(),
                .d_weight = d_weight.data()});
  for (int i = 0; i < 72; ++i) REQUIRE(std::isnan(d_weight[i]) == (i >= 24 && i < 48));
}

TEST_CASE("the grouped product refuses what it cannot do") {
  const Table offsets{0, 3, 9};
  GroupedGemm shape{.rows = {8, 0}, .experts = 2, .n = 2, .k = 2};
  CHECK_THROWS_WITH(grouped_gemm(queue_of<float>(), shape, {.expert_offsets = offsets.data()}),
                    "grouped_gemm: 9 rows exceed the bound of 8");
  shape.epilogue = Epilogue::BiasResidual;
  CHECK_THROWS_AS(grouped_gemm(queue_of<float>(), shape, {}), Error);
  shape.epilogue = Epilogue::BiasGelu;
  CHECK_THROWS_AS(grouped_gemm(queue_of<float>(), shape, {}), Error);
  shape.epilogue = Epilogue::Bias;
  shape.mode = GroupedMode::GradInput;
  CHECK_THROWS_AS(grouped_gemm(queue_of<float>(), shape, {}), Error);
  CHECK_THROWS_AS(grouped_gemm({Device::Cpu, Dtype::Bf16, nullptr}, {}, {}), Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
