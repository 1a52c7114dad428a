#include "planner/space/architectures.h"

#include <algorithm>
#include <cmath>

#include "core/base/fail.h"
#include "core/spec/parameters.h"

namespace imhotep::planner {
namespace {

constexpr int kStep = 4;  // experts

std::string text_of(const ModelSpec& model) {
  return fmt::format("{}, {}, {} layers", model.experts.text(),
                     model.residual     ? "residual"
                     : model.top_k == 1 ? "top-1"
                                        : fmt::format("top-{}", model.top_k),
                     model.layers);
}

// `few` experts in the first slots, twice as many in the last `wide`.
ExpertList pyramid(int slots, int wide, int few) {
  ExpertList list;
  for (int s = 0; s < slots; ++s) list.slots.push_back(s < slots - wide ? few : 2 * few);
  return list;
}

// Core parameters grow by the same amount with every expert: the number that meets the budget.
int experts_for(ModelSpec model, int slots, int wide, double budget) {
  const auto size = [&](int few) {
    model.experts = pyramid(slots, wide, few);
    return static_cast<double>(core_parameters(model));
  };
  const double one = size(kStep), two = size(2 * kStep);
  if (two <= one) return 0;
  const double steps = 1 + (budget - one) / (two - one);
  return static_cast<int>(std::lround(steps)) * kStep;
}

}  // namespace

std::vector<Architecture> architectures_of(const ModelSpec& model, double tolerance) {
  if (model.moe_layers() == 0) fail_input("{}: a model without experts has one shape", model.name);
  const auto budget = static_cast<double>(core_parameters(model));
  std::vector<Architecture> all = {
      {.model = model, .change = text_of(model), .core_parameters = budget}};
  const auto add = [&](ModelSpec other) {
    other.name = fmt::format("{} as {}", model.name, text_of(other));
    const auto size = static_cast<double>(core_parameters(other));
    if (std::abs(size / budget - 1) > tolerance) return;
    for (const Architecture& known : all) {
      if (known.change == text_of(other)) return;
    }
    all.push_back({.model = other, .change = text_of(other), .core_parameters = size});
  };
  for (const int layers : {model.layers, model.layers - model.layers / 8}) {
    ModelSpec other = model;
    other.layers = layers;
    const int slots = layers / model.moe_interval;
    for (const auto& [residual, top_k] : {std::pair(true, 1), {false, 1}, {false, 2}}) {
      other.residual = residual;
      other.top_k = top_k;
      // Random selection is defined for one route only.
      const bool random = model.router.drop == DropPolicy::Random;
      other.router.drop = random && top_k > 1 ? DropPolicy::Position : model.router.drop;
      for (const int wide : {0, 1, 2, slots / 4, slots / 2}) {
        if (wide >= slots && slots > 0) continue;
        const int few = experts_for(other, slots, wide, budget);
        if (few < kStep) continue;
        other.experts = pyramid(slots, wide, few);
        add(other);
      }
    }
  }
  return all;
}

}  // namespace imhotep::planner
