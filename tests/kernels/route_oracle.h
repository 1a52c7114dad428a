#pragma once
// A second implementation of routing with dense [T, E] masks, as the reference has it: masks of
// the choices, then filters over the columns. Slow and obvious; fp64.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/route.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {

struct Inputs {
  Table used;
  std::vector<double> uniform, noise;
  RouteContext context;
};

struct Oracle {
  std::int64_t tokens, experts, k;
  std::vector<double> probs;
  std::vector<std::vector<int>> mask;  // [k][T * E]
  std::vector<int> place;              // [T * E]
  std::vector<double> counts;

  [[nodiscard]] int any(std::int64_t t, std::int64_t e) const {
    int sum = 0;
    for (const auto& m : mask) sum += m[t * experts + e];
    return sum;
  }
  void drop(std::int64_t t, std::int64_t e) {
    for (auto& m : mask) m[t * experts + e] = 0;
  }
};

inline std::int64_t arg_max(const double* values, std::int64_t count) {
  return std::max_element(values, values + count) - values;
}

inline void oracle_choose(Oracle& oracle, const std::vector<double>& logits, const Inputs& in) {
  const std::int64_t E = oracle.experts;
  oracle.mask.assign(oracle.k, std::vector<int>(oracle.tokens * E, 0));
  for (std::int64_t t = 0; t < oracle.tokens; ++t) {
    std::vector<double> noisy(logits.begin() + t * E, logits.begin() + (t + 1) * E);
    double sum = 0;
    const double high = *std::max_element(noisy.begin(), noisy.end());
    for (std::int64_t e = 0; e < E; ++e) sum += std::exp(noisy[e] - high);
    for (std::int64_t e = 0; e < E; ++e) oracle.probs[t * E + e] = std::exp(noisy[e] - high) / sum;
    std::vector<double> left(oracle.probs.begin() + t * E, oracle.probs.begin() + (t + 1) * E);
    for (std::int64_t e = 0; e < E && !in.noise.empty(); ++e) noisy[e] += in.noise[t * E + e];
    for (std::int64_t c = 0; c < oracle.k; ++c) {
      const bool sampled = !in.noise.empty() && (oracle.k == 1 || c == 1);
      const std::int64_t e = arg_max(sampled ? noisy.data() : left.data(), E);
      left[e] = noisy[e] = -1e300;
      oracle.mask[c][t * E + e] = in.used.empty() || in.used[t] != 0 ? 1 : 0;
    }
  }
}

// Rank of token t among the routes of expert e, by falling score, then by token.
inline std::int64_t rank_of(const Oracle& oracle, const std::vector<double>& score, std::int64_t t,
                            std::int64_t e) {
  std::int64_t rank = 0;
  const double own = score[t * oracle.experts + e];
  for (std::int64_t other = 0; other < oracle.tokens; ++other) {
    if (oracle.any(other, e) == 0 || other == t) continue;
    const double theirs = score[other * oracle.experts + e];
    rank += theirs > own || (theirs == own && other < t) ? 1 : 0;
  }
  return rank;
}

inline void oracle_keep_best(Oracle& oracle, const std::vector<double>& score,
                             std::int64_t capacity) {
  Oracle kept = oracle;
  for (std::int64_t t = 0; t < oracle.tokens; ++t) {
    for (std::int64_t e = 0; e < oracle.experts; ++e) {
      if (oracle.any(t, e) && rank_of(oracle, score, t, e) >= capacity) kept.drop(t, e);
    }
  }
  oracle = kept;
}

inline void oracle_slots(Oracle& oracle, std::int64_t limit, bool firsts_first) {
  for (std::int64_t e = 0; e < oracle.experts; ++e) {
    std::vector<std::int64_t> order;  // tokens in slot order
    for (std::int64_t c = 0; c < (firsts_first ? oracle.k : 1); ++c) {
      for (std::int64_t t = 0; t < oracle.tokens; ++t) {
        if (firsts_first ? oracle.mask[c][t * oracle.experts + e] : oracle.any(t, e)) {
          order.push_back(t);
        }
      }
    }
    for (std::size_t i = 0; i < order.size(); ++i) {
      oracle.place[order[i] * oracle.experts + e] = static_cast<int>(i);
      if (static_cast<std::int64_t>(i) >= limit) oracle.drop(order[i], e);
    }
  }
}

inline Oracle solve(const Route& shape, const std::vector<double>& logits, const Inputs& in) {
  const std::int64_t E = shape.experts;
  Oracle oracle{shape.tokens,
                E,
                shape.k,
                std::vector<double>(logits.size()),
                {},
                std::vector<int>(logits.size(), -1),
                std::vector<double>(E)};
  oracle_choose(oracle, logits, in);
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    for (std::int64_t e = 0; e < E; ++e) {
      oracle.counts[e] += shape.k == 2 ? oracle.mask[0][t * E + e] : oracle.any(t, e);
    }
  }
  const std::int64_t none = shape.tokens * shape.k + 1;
  const std::int64_t capacity = shape.capacity > 0 ? shape.capacity : none;
  if (shape.policy == DropPolicy::Random) oracle_keep_best(oracle, in.uniform, capacity);
  if (shape.policy == DropPolicy::Probability) oracle_keep_best(oracle, oracle.probs, capacity);
  oracle_slots(oracle, shape.policy == DropPolicy::Position ? capacity : none,
               shape.k == 2 && shape.policy != DropPolicy::Probability);
  return oracle;
}

}  // namespace imhotep::kernels::test
