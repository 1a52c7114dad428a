#include "core/spec/parameters.h"

namespace imhotep {
namespace {

std::int64_t mlp(const ModelSpec& m) {
  const std::int64_t h = m.hidden, f = m.ffn();
  return 2 * h * f + f + h;
}

// Parameters of the whole model when each MoE layer holds `experts_of(layer)` experts.
template <class ExpertsOf>
std::int64_t count(const ModelSpec& m, ExpertsOf experts_of) {
  const std::int64_t h = m.hidden;
  std::int64_t total = (static_cast<std::int64_t>(m.padded_vocab()) + m.context) * h + 2 * h;
  for (int layer = 0; layer < m.layers; ++layer) {
    const std::int64_t experts = m.experts_at(layer);
    total += 4 * h * h + 4 * h + 4 * h;  // attention, its biases, two norms
    if (experts == 0) {
      total += mlp(m);
      continue;
    }
    total += experts * h + experts_of(experts) * mlp(m);
    if (m.residual) total += mlp(m) + 2 * h + 2;
  }
  return total;
}

}  // namespace

std::int64_t core_parameters(const ModelSpec& m) {
  const std::int64_t h = m.hidden;
  std::int64_t total = 12 * static_cast<std::int64_t>(m.layers) * h * h;
  for (int layer = 0; layer < m.layers; ++layer) {
    const std::int64_t experts = m.experts_at(layer);
    if (experts > 0) total += (m.residual ? experts : experts - 1) * 8 * h * h;
  }
  return total;
}

std::int64_t parameters(const ModelSpec& m) {
  return count(m, [](std::int64_t experts) { return experts; });
}

std::int64_t active_parameters(const ModelSpec& m) {
  return count(m, [&](std::int64_t) { return static_cast<std::int64_t>(m.top_k); });
}

double forward_flops(const ModelSpec& m, double context) {
  const double h = m.hidden, mlp_flops = 4.0 * h * m.ffn();
  double total = 2.0 * m.padded_vocab() * h;
  for (int layer = 0; layer < m.layers; ++layer) {
    const int experts = m.experts_at(layer);
    total += 8 * h * h + 4 * context * h;
    if (experts == 0) {
      total += mlp_flops;
      continue;
    }
    total += m.top_k * mlp_flops + 2.0 * experts * h;
    if (m.residual) total += mlp_flops + 4 * h;
  }
  return total;
}

}  // namespace imhotep
