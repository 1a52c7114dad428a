#pragma once
// A MoE layer as a golden case describes it: parameters with expected and computed gradients.

#include <functional>

#include "tests/kernels/golden_case.h"

namespace imhotep::golden {

using Floats = std::vector<float>;

// Empty for the activation of the kernels, GELU by tanh; the others are computed by the test.
struct Activation {
  std::function<double(double)> value, slope;
};

struct Parameter {
  Floats value, expected, grad;
  bool given = false;
};

struct Linear {
  Parameter weight, bias;
};
struct Mlp {
  Linear up, down;  // experts: one after the other
};

struct Layer {
  std::int64_t tokens = 0, hidden = 0, ffn = 0, experts = 0, k = 1;
  Activation activation;
  double aux = 0;
  bool backward = false, residual = false;
  Floats x, upstream;
  Parameter gate;
  Mlp routed, dense;
  Linear coefficient;
};

[[nodiscard]] Layer read_layer(Case& fields);

}  // namespace imhotep::golden
