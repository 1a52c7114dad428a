#include "kernels/layer_norm.h"

#include "core/base/error.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

template <class T>
struct Layer {
  LayerNorm shape;
  std::vector<T> x, gain, bias, y, mean, rstd;

  void forward() {
    y.resize(x.size());
    mean.resize(shape.rows);
    rstd.resize(shape.rows);
    layer_norm(queue_of<T>(), shape,
               {x.data(), gain.data(), bias.data(), y.data(), mean.data(), rstd.data()});
  }
};

Layer<double> random_layer(std::uint64_t seed, std::int64_t rows, std::int64_t hidden) {
  Random random(seed);
  Layer<double> layer{{rows, hidden},
                      random.normals<double>(rows * hidden),
                      random.normals<double>(hidden),
                      random.normals<double>(hidden),
                      {},
                      {},
                      {}};
  for (double& value : layer.x) value = 3 * value + 5;
  return layer;
}

TEST_CASE("a normalised row has mean 0 and variance 1, and carries the statistics") {
  for (const std::int64_t hidden : {2, 16, 31, 64, 130}) {
    CAPTURE(hidden);
    auto layer = random_layer(21, 3, hidden);
    layer.gain.assign(hidden, 1);
    layer.bias.assign(hidden, 0);
    layer.forward();
    for (std::int64_t row = 0; row < 3; ++row) {
      double sum = 0, squares = 0, plain = 0;
      for (std::int64_t i = row * hidden; i < (row + 1) * hidden; ++i) {
        sum += layer.y[i];
        squares += layer.y[i] * layer.y[i];
        plain += layer.x[i];
      }
      const double count = static_cast<double>(hidden);
      CHECK(std::abs(sum / count) < 1e-12);
      CHECK(squares / count == doctest::Approx(1).epsilon(1e-3));
      CHECK(layer.mean[row] == doctest::Approx(plain / count));
    }
  }
}

TEST_CASE("layer norm: gradients agree with central differences") {
  for (const bool accumulate : {false, true}) {
    for (const std::int64_t rows : {0, 1, 5}) {
      for (const std::int64_t hidden : {1, 7, 33}) {
        CAPTURE(rows);
        CAPTURE(hidden);
        auto layer = random_layer(22, rows, hidden);
        Random random(23);
        const auto dy = random.normals<double>(rows * hidden);
        const auto start = random.normals<double>(rows * hidden);
        layer.forward();
        auto dx = start;
        std::vector<double> dgain(hidden, 0.5), dbias(hidden, -0.5);
        layer_norm_grad(queue_of<double>(), {rows, hidden, accumulate},
                        {dy.data(), layer.x.data(), layer.gain.data(), layer.mean.data(),
                         layer.rstd.data(), dx.data(), dgain.data(), dbias.data()});
        const auto loss = [&] {
          layer.forward();
          return dot(dy, layer.y);
        };
        auto want_dx = numeric_gradient(layer.x, loss);
        for (std::size_t i = 0; accumulate && i < want_dx.size(); ++i) want_dx[i] += start[i];
        auto want_gain = numeric_gradient(layer.gain, loss);
        auto want_bias = numeric_gradient(layer.bias, loss);
        for (double& value : want_gain) value += 0.5;
        for (double& value : want_bias) value -= 0.5;
        CHECK(scaled_error(dx, want_dx, 1e-2) < 1e-6);
        CHECK(scaled_error(dgain, want_gain) < 1e-6);
        CHECK(scaled_error(dbias, want_bias) < 1e-6);
      }
    }
  }
}

TEST_CASE("layer norm: float agrees with double") {
  auto exact = random_layer(24, 6, 77);
  exact.forward();
  Layer<float> layer{
      {6, 77}, cast<float>(exact.x), cast<float>(exact.gain), cast<float>(exact.bias), {}, {}, {}};
  layer.forward();
  CHECK(scaled_error(layer.y, exact.y) < 2e-6);
  CHECK(scaled_error(layer.rstd, exact.rstd) < 2e-6);
  const auto dy = Random(25).normals<double>(6 * 77);
  const auto dy_float = cast<float>(dy);
  std::vector<double> dx(dy.size()), dgain(77), dbias(77);
  std::vector<float> dx_float(dy.size()), dgain_float(77), dbias_float(77);
  layer_norm_grad(queue_of<double>(), {6, 77, false},
                  {dy.data(), exact.x.data(), exact.gain.data(), exact.mean.data(),
                   exact.rstd.data(), dx.data(), dgain.data(), dbias.data()});
  layer_norm_grad(queue_of<float>(), {6, 77, false},
                  {dy_float.data(), layer.x.data(), layer.gain.data(), layer.mean.data(),
                   layer.rstd.data(), dx_float.data(), dgain_float.data(), dbias_float.data()});
  CHECK(scaled_error(dx_float, dx) < 5e-6);
  CHECK(scaled_error(dgain_float, dgain) < 5e-6);
  CHECK(scaled_error(dbias_float, dbias) < 5e-6);
}

TEST_CASE("a layer norm without a hidden dimension is refused") {
  CHECK_THROWS_AS(layer_norm(queue_of<float>(), {1, 0}, {}), Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
