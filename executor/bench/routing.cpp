#include "executor/bench/routing.h"

#include <cmath>
#include <vector>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "executor/bench/device_data.h"

namespace imhotep::executor {
namespace {

constexpr double kMuch = 1e4;  // against logits of a few units
constexpr const char* kNoise = "routing_noise";

struct Gate {
  std::int64_t tokens = 0, experts = 0;
  std::size_t operand = 0;  // where the noise goes
};

// The operand lists of the families that choose experts: core/program/operands.md.
std::optional<Gate> gate_of(const program::Operation& operation) {
  if (const auto* route = std::get_if<Route>(&operation.shape)) {
    if (route->k != 1) fail("routing can be controlled for k = 1 alone, the gate has {}", route->k);
    return Gate{.tokens = route->tokens, .experts = route->experts, .operand = 2};
  }
  return std::nullopt;
}

// A token's expert, drawn by inverting the distribution.
std::int64_t draw(Routing routing, std::int64_t experts, double u) {
  if (routing == Routing::Uniform) {
    return std::min(experts - 1, static_cast<std::int64_t>(u * static_cast<double>(experts)));
  }
  double total = 0;
  for (std::int64_t e = 0; e < experts; ++e) total += 1 / static_cast<double>(e + 1);
  double sum = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    sum += 1 / static_cast<double>(e + 1) / total;
    if (u < sum) return e;
  }
  return experts - 1;
}

}  // namespace

void control_routing(program::Program& program) {
  for (program::Operation& operation : program.operations) {
    const std::optional<Gate> gate = gate_of(operation);
    if (!gate) continue;
    program.buffers.push_back({.name = kNoise,
                               .layer = operation.layer,
                               .kind = program::BufferKind::Kv,
                               .dtype = Dtype::F64,
                               .elements = gate->tokens * gate->experts});
    const program::Operand noise{
        .buffer = BufferId(static_cast<std::int64_t>(program.buffers.size()) - 1)};
    operation.inputs.set(gate->operand, noise);
  }
}

void draw_routing(Runner& runner, int index, Routing routing, std::uint64_t seed) {
  if (routing == Routing::Natural) return;
  const program::Program& program = runner.program(index);
  for (const program::Operation& operation : program.operations) {
    const std::optional<Gate> gate = gate_of(operation);
    if (!gate) continue;
    std::vector<double> noise(static_cast<std::size_t>(gate->tokens * gate->experts), 0.0);
    for (std::int64_t t = 0; t < gate->tokens; ++t) {
      const double u =
          uniform(seed, static_cast<std::uint64_t>(operation.layer), static_cast<std::uint64_t>(t));
      noise[t * gate->experts + draw(routing, gate->experts, u)] = kMuch;
    }
    put(runner, runner.address(index, operation.inputs[gate->operand].buffer), noise.data(),
        static_cast<std::int64_t>(noise.size() * sizeof(double)));
  }
}

}  // namespace imhotep::executor
