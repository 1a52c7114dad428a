#pragma once
// How many parameters a model has.

#include <cstdint>

#include "core/spec/model.h"

namespace imhotep {

// The paper's rule, which reproduces its printed sizes: attention and feed-forward matrices only,
// P = 12·L·h² + sum over MoE layers of (E − 1)·8h², or E·8h² where a fixed MLP stays (residual).
// Source: DeepSpeed-MoE (arXiv 2201.05596), Tables 1 and 6; formula derived from them.
[[nodiscard]] std::int64_t core_parameters(const ModelSpec& model);

// Every tensor: embeddings (padded vocabulary), positions, norms, biases, gates, coefficients.
[[nodiscard]] std::int64_t parameters(const ModelSpec& model);

// Parameters that one token passes through (k experts, the fixed MLP, all dense tensors).
[[nodiscard]] std::int64_t active_parameters(const ModelSpec& model);

// Forward FLOPs of one token that attends to `context` keys on average; training costs 3 times.
// Counts matrix products and attention; a multiply-add is two.
[[nodiscard]] double forward_flops(const ModelSpec& model, double context);

}  // namespace imhotep
