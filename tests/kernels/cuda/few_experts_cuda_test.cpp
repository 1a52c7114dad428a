// The experts of a decode step on the device against the CPU's: row counts at which the kernels
// change their shape, one to three routes a token, unused tokens, and all tokens at one expert.

#include "kernels/few_experts.h"

#include <algorithm>

#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels {
namespace {

using Values = std::vector<float>;
using Table = std::vector<std::int32_t>;

const Queue kHost{.device = Device::Cpu, .dtype = Dtype::F32};
constexpr Dtype kData = Dtype::Bf16;

struct Case {
  std::int64_t tokens = 0, experts = 0, k = 1, hidden = 64, ffn = 256;
  bool residual = true;
  float skew = 0;      // added to the logits of expert 0
  bool unused = true;  // every fifth token takes no part

  [[nodiscard]] std::int64_t routes() const { return tokens * k; }
};

// Inputs of both operations and the CPU's results.
struct Layer {
  Values n, logits, up, up_bias, down, down_bias, x, mlp_hidden, mlp_down, mlp_bias, coefficients;
  Table used, expert;
  Values hidden, weight, stats, y;
};

Layer make_layer(const Case& c, std::uint64_t seed) {
  const auto data = [&](std::int64_t count, std::uint64_t which, std::int64_t depth = 1) {
    return random_values(count, seed * 32 + which, kData, 1 / std::sqrt(static_cast<float>(depth)));
  };
  const std::int64_t matrix = c.experts * c.hidden * c.ffn;
  Layer layer{.n = data(c.tokens * c.hidden, 1),
              .logits = random_values(c.tokens * c.experts, seed * 32 + 2, Dtype::F32),
              .up = data(matrix, 3, c.hidden),
              .up_bias = data(c.experts * c.ffn, 4),
              .down = data(matrix, 5, c.ffn),
              .down_bias = data(c.experts * c.hidden, 6),
              .x = data(c.tokens * c.hidden, 7),
              .mlp_hidden = data(c.tokens * c.ffn, 8),
              .mlp_down = data(c.hidden * c.ffn, 9, c.ffn),
              .mlp_bias = data(c.hidden, 10),
              .coefficients = random_values(2 * c.tokens, seed * 32 + 11, Dtype::F32)};
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    layer.logits[t * c.experts] += c.skew;
    layer.used.push_back(c.unused && t % 5 == 3 ? 0 : 1);
  }
  layer.expert.resize(static_cast<std::size_t>(c.routes()));
  layer.weight.resize(layer.expert.size());
  layer.hidden.assign(static_cast<std::size_t>(c.routes() * c.ffn), 0);
  layer.stats.resize(static_cast<std::size_t>(2 * c.experts));
  layer.y.resize(layer.x.size());
  few_experts_up(
      kHost, {.tokens = c.tokens, .experts = c.experts, .k = c.k, .hidden = c.hidden, .ffn = c.ffn},
      {.n = layer.n.data(),
       .logits = layer.logits.data(),
       .used = layer.used.data(),
       .up = layer.up.data(),
       .up_bias = layer.up_bias.data(),
       .hidden = layer.hidden.data(),
       .expert = layer.expert.data(),
       .weight = layer.weight.data(),
       .stats = layer.stats.data()});
  return layer;
}

void check_up(const DeviceQueue& queue, const Case& c, const Layer& layer) {
  const DeviceMemory n = queue.upload(layer.n), logits = queue.upload(layer.logits, Dtype::F32),
                     used = queue.upload_raw(layer.used), up = queue.upload(layer.up),
                     bias = queue.upload(layer.up_bias), down = queue.upload(layer.down);
  const DeviceMemory hidden = queue.upload(Values(layer.hidden.size())),
                     again = queue.upload(Values(layer.hidden.size())),
                     expert = queue.poisoned(c.routes(), Dtype::I32),
                     weight = queue.poisoned(c.routes(), Dtype::F32),
                     stats = queue.poisoned(2 * c.experts, Dtype::F32);
  const FewExpertsUp shape{
      .tokens = c.tokens, .experts = c.experts, .k = c.k, .hidden = c.hidden, .ffn = c.ffn};
  FewExpertsUpOperands operands{.n = n.data(),
                                .logits = logits.data(),
                                .used = static_cast<const std::int32_t*>(used.data()),
                                .up = up.data(),
                                .up_bias = bias.data(),
                                .down = down.data(),
                                .hidden = hidden.data(),
                                .expert = static_cast<std::int32_t*>(expert.data()),
                                .weight = weight.data(),
                                .stats = stats.data()};
  few_experts_up(queue, shape, operands);
  CHECK(queue.download_raw<std::int32_t>(expert) == layer.expert);
  check_close(queue.download(weight, Dtype::F32), layer.weight, tolerance(Dtype::F32));
  check_close(queue.download(stats, Dtype::F32), layer.stats, tolerance(Dtype::F32));
  check_close(queue.download(hidden), layer.hidden, tolerance(kData));
  operands.hidden = again.data();
  few_experts_up(queue, shape, operands);
  CHECK(queue.download_raw<std::uint16_t>(hidden) == queue.download_raw<std::uint16_t>(again));
}

void check_down(const DeviceQueue& queue, const Case& c, Layer& layer) {
  for (float& value : layer.hidden) value = from_bf16(to_bf16(value));
  const FewExpertsDown shape{.tokens = c.tokens,
                             .experts = c.experts,
                             .k = c.k,
                             .hidden = c.hidden,
                             .ffn = c.ffn,
                             .residual = c.residual};
  const auto operands_of = [&](const auto& of) {
    FewExpertsDownOperands operands{.x = of(layer.x),
                                    .expert_hidden = of(layer.hidden),
                                    .down = of(layer.down),
                                    .down_bias = of(layer.down_bias)};
    if (c.residual) {
      operands.mlp_hidden = of(layer.mlp_hidden);
      operands.mlp_down = of(layer.mlp_down);
      operands.mlp_bias = of(layer.mlp_bias);
    }
    return operands;
  };
  FewExpertsDownOperands host = operands_of([](const Values& v) { return v.data(); });
  host.expert = layer.expert.data();
  host.weight = layer.weight.data();
  host.coefficients = c.residual ? layer.coefficients.data() : nullptr;
  host.y = layer.y.data();
  few_experts_down(kHost, shape, host);

  std::vector<DeviceMemory> held;
  const auto keep = [&](DeviceMemory memory) {
    held.push_back(std::move(memory));
    return held.back().data();
  };
  FewExpertsDownOperands device =
      operands_of([&](const Values& v) { return keep(queue.upload(v)); });
  device.expert = static_cast<const std::int32_t*>(keep(queue.upload_raw(layer.expert)));
  device.weight = keep(queue.upload(layer.weight, Dtype::F32));
  if (c.residual) device.coefficients = keep(queue.upload(layer.coefficients, Dtype::F32));
  const DeviceMemory y = queue.poisoned(c.tokens * c.hidden),
                     again = queue.poisoned(c.tokens * c.hidden);
  device.y = y.data();
  few_experts_down(queue, shape, device);
  // From 17 tokens on the MLP's result is rounded on its way.
  check_close(queue.download(y), layer.y, chained_tolerance(kData));
  device.y = again.data();
  few_experts_down(queue, shape, device);
  CHECK(queue.download_raw<std::uint16_t>(y) == queue.download_raw<std::uint16_t>(again));
}

void check_layer(const DeviceQueue& queue, const Case& c, std::uint64_t seed) {
  CAPTURE(seed);
  CAPTURE(c.tokens);
  CAPTURE(c.experts);
  CAPTURE(c.k);
  CAPTURE(c.hidden);
  CAPTURE(c.residual);
  CAPTURE(c.skew);
  Layer layer = make_layer(c, seed);
  check_up(queue, c, layer);
  check_down(queue, c, layer);
}

TEST_CASE("experts of few tokens give what the CPU gives") {
  const DeviceQueue queue(kData);
  std::uint64_t seed = 1;
  for (const std::int64_t tokens : {1, 2, 8, 9, 16, 17, 64, 128}) {
    for (const std::int64_t k : {1, 2, 3}) {
      for (const bool residual : {false, true}) {
        check_layer(queue, {.tokens = tokens, .experts = 7, .k = k, .residual = residual}, ++seed);
        check_layer(queue,
                    {.tokens = tokens, .experts = 32, .k = k, .residual = residual, .skew = 2},
                    ++seed);
      }
    }
  }
}

TEST_CASE("experts of few tokens serve the extremes") {
  const DeviceQueue queue(kData);
  check_layer(queue, {.tokens = 0, .experts = 4, .residual = false}, 1);
  check_layer(queue, {.tokens = 64, .experts = 1}, 2);
  check_layer(queue, {.tokens = 128, .experts = 16, .skew = 100, .unused = false}, 3);
  check_layer(queue, {.tokens = 128, .experts = 128, .unused = false}, 4);
  check_layer(queue, {.tokens = 64, .experts = 256, .k = 8, .hidden = 16, .ffn = 64}, 5);
  check_layer(queue, {.tokens = 5, .experts = 3, .hidden = 200, .ffn = 40}, 6);
  check_layer(queue, {.tokens = 8, .experts = 4, .hidden = 1024, .ffn = 4096}, 7);
  check_layer(queue, {.tokens = 3, .experts = 2, .hidden = 2048, .ffn = 8192}, 8);
}

TEST_CASE("a step in which no token takes part passes its input on") {
  const DeviceQueue queue(kData);
  Case c{.tokens = 3, .experts = 4, .residual = false, .unused = false};
  Layer layer = make_layer(c, 1);
  std::fill(layer.expert.begin(), layer.expert.end(), -1);
  std::fill(layer.weight.begin(), layer.weight.end(), 0.0F);
  check_down(queue, c, layer);
  CHECK(layer.y == layer.x);
}

}  // namespace
}  // namespace imhotep::kernels
