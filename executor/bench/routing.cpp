#include "executor/bench/routing.h"

#include <algorithm>
#include <vector>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "executor/bench/device_data.h"

namespace imhotep::executor {
namespace {

constexpr const char* kNoise = "gate_noise";
constexpr std::size_t kNoiseInput = 8;  // of norm_gate (core/program/operands.md)
constexpr float kChosen = 1e4F;         // far above any logit; later choices get less

struct Gate {
  std::size_t operation = 0;
  std::int64_t rows = 0, experts = 0;
};

std::vector<Gate> gates_of(const program::Program& program) {
  std::vector<Gate> gates;
  for (std::size_t i = 0; i < program.operations.size(); ++i) {
    if (const auto* gate = std::get_if<NormGate>(&program.operations[i].shape)) {
      gates.push_back({i, gate->rows, gate->experts});
    }
  }
  return gates;
}

bool is_noisy(const program::Program& program, const Gate& gate) {
  const program::Operands& in = program.operations[gate.operation].inputs;
  return in.size() > kNoiseInput && in[kNoiseInput].valid() &&
         std::string_view(program[in[kNoiseInput].buffer].name) == kNoise;
}

// Draws an expert of a gate: uniform, or by falling weights in the gate's own order.
class Draw {
 public:
  Draw(Routing routing, std::int64_t experts, std::uint64_t seed) : seed_(seed) {
    for (std::int64_t e = 0; e < experts; ++e) {
      total_ += routing == Routing::Skewed ? 1 / static_cast<double>(e + 1) : 1;
      below_.push_back(total_);
    }
  }
  [[nodiscard]] std::size_t operator()(std::uint64_t gate, std::uint64_t token,
                                       std::uint64_t attempt) const {
    const double at = uniform(seed_, gate, token, attempt) * total_;
    const auto found = std::upper_bound(below_.begin(), below_.end(), at);
    const auto rank = std::min(static_cast<std::size_t>(found - below_.begin()), below_.size() - 1);
    return (rank + hash(seed_, gate)) % below_.size();
  }

 private:
  std::uint64_t seed_;
  double total_ = 0;
  std::vector<double> below_;
};

}  // namespace

void add_gate_noise(program::Program& program) {
  const BufferId noise(static_cast<std::int64_t>(program.buffers.size()));
  std::int64_t elements = 0;
  for (const Gate& gate : gates_of(program)) {
    program::Operands& in = program.operations[gate.operation].inputs;
    while (in.size() <= kNoiseInput) in.add({});
    in.set(kNoiseInput, {.buffer = noise, .offset = elements});
    elements += gate.rows * gate.experts;
  }
  if (elements == 0) {
    fail_input(
        "routes can be drawn for decode steps with experts and fused gates only, of at most "
        "128 rows");
  }
  program.buffers.push_back(
      {.name = kNoise, .kind = program::BufferKind::Kv, .dtype = Dtype::F32, .elements = elements});
}

void draw_routes(const Runner& runner, int program, const RouteDraw& how) {
  const program::Program& steps = runner.program(program);
  std::uint64_t number = 0;
  for (const Gate& gate : gates_of(steps)) {
    if (!is_noisy(steps, gate)) continue;
    const Draw draw(how.routing, gate.experts, how.seed);
    std::vector<float> noise(static_cast<std::size_t>(gate.rows * gate.experts), 0.0F);
    const auto most = std::min<std::int64_t>(how.top_k, gate.experts);
    for (std::int64_t t = 0; t < gate.rows; ++t) {
      float* row = noise.data() + t * gate.experts;
      std::uint64_t attempt = 0;
      for (std::int64_t c = 0; c < most; ++attempt) {
        float& value = row[draw(number, static_cast<std::uint64_t>(how.first_token + t), attempt)];
        if (value != 0) continue;
        value = kChosen / static_cast<float>(++c);
      }
    }
    const program::Operand& to = steps.operations[gate.operation].inputs[kNoiseInput];
    put(runner,
        runner.address(program, to.buffer) + to.offset * static_cast<std::int64_t>(sizeof(float)),
        noise.data(), static_cast<std::int64_t>(noise.size() * sizeof(float)));
    ++number;
  }
}

}  // namespace imhotep::executor
