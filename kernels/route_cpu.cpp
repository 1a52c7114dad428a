// Routing in five steps: probabilities, choices, counts, survivors, slots and weights.
// Needs no scratch: while survivors are chosen by score, the memory of the weights holds the routes
// grouped by expert. Data and wide type are the same on the CPU.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/random.h"
#include "kernels/route.h"
#include "kernels/vector_math.h"

namespace imhotep::kernels::cpu {
namespace {

using Counters = std::array<std::int32_t, kMaxExperts + 1>;

template <class T>
IMHOTEP_INLINE void softmax_body(std::int64_t rows, std::int64_t cols, const T* in, T* out) {
  for (std::int64_t row = 0; row < rows; ++row, in += cols, out += cols) {
    T high = in[0];
    IMHOTEP_REDUCE(max : high)
    for (std::int64_t i = 0; i < cols; ++i) high = in[i] > high ? in[i] : high;
    T sum = 0;
    IMHOTEP_REDUCE(+ : sum)
    for (std::int64_t i = 0; i < cols; ++i) {
      out[i] = fast_exp(in[i] - high);
      sum += out[i];
    }
    const T scale = T(1) / sum;
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < cols; ++i) out[i] *= scale;
  }
}
IMHOTEP_CLONES void softmax(std::int64_t rows, std::int64_t cols, const float* in, float* out) {
  softmax_body(rows, cols, in, out);
}
IMHOTEP_CLONES void softmax(std::int64_t rows, std::int64_t cols, const double* in, double* out) {
  softmax_body(rows, cols, in, out);
}

// The k largest in falling order, the lower expert first where equal.
template <class T>
void choose_largest(const T* score, std::int64_t experts, std::int64_t k, std::int32_t* chosen) {
  std::int64_t filled = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    if (filled == k && !(score[e] > score[chosen[k - 1]])) continue;
    std::int64_t at = filled < k ? filled++ : k - 1;
    for (; at > 0 && score[e] > score[chosen[at - 1]]; --at) chosen[at] = chosen[at - 1];
    chosen[at] = static_cast<std::int32_t>(e);
  }
}

// The largest of logits + noise, `excluded` apart.
template <class T>
std::int32_t choose_noisy(const T* logits, const double* noise, std::int64_t experts,
                          std::int32_t excluded) {
  std::int32_t best = -1;
  T high = 0;
  for (std::int32_t e = 0; e < experts; ++e) {
    if (e == excluded) continue;
    const T value = logits[e] + (noise != nullptr ? static_cast<T>(noise[e]) : T(0));
    if (best < 0 || value > high) {
      best = e;
      high = value;
    }
  }
  return best;
}

template <class T>
void choose(const Route& shape, const RouteOperands& operands) {
  const auto* logits = static_cast<const T*>(operands.logits);
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    std::int32_t* chosen = operands.expert + t * shape.k;
    if (operands.used != nullptr && operands.used[t] == 0) {
      std::fill_n(chosen, shape.k, -1);
      continue;
    }
    const std::int64_t row = t * shape.experts;
    const double* noise = operands.noise != nullptr ? operands.noise + row : nullptr;
    if (shape.k == 1 && noise != nullptr) {
      chosen[0] = choose_noisy(logits + row, noise, shape.experts, -1);
    } else if (shape.k == 2) {
      choose_largest(logits + row, shape.experts, 1, chosen);
      chosen[1] = choose_noisy(logits + row, noise, shape.experts, chosen[0]);
    } else {
      choose_largest(logits + row, shape.experts, shape.k, chosen);
    }
  }
}

// Routes of each expert among choices [0, choices), before dropping.
Counters count(const Route& shape, const std::int32_t* expert, std::int64_t choices) {
  Counters counts{};
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    for (std::int64_t c = 0; c < choices; ++c) {
      const std::int32_t e = expert[t * shape.k + c];
      if (e >= 0) ++counts[e];
    }
  }
  return counts;
}

template <class T>
void write_stats(const Route& shape, const RouteOperands& operands, const Counters& balanced) {
  std::array<double, kMaxExperts> sums{};
  const auto* probs = static_cast<const T*>(operands.probs);
  for (std::int64_t t = 0; t < shape.tokens; ++t, probs += shape.experts) {
    for (std::int64_t e = 0; e < shape.experts; ++e) sums[e] += static_cast<double>(probs[e]);
  }
  auto* stats = static_cast<T*>(operands.stats);
  for (std::int64_t e = 0; e < shape.experts; ++e) {
    stats[e] = static_cast<T>(balanced[e]);
    stats[shape.experts + e] = static_cast<T>(sums[e]);
  }
}

// Drops all but the `capacity` routes of highest score of every expert; equal scores: the earlier.
template <class Score>
void keep_highest(const Route& shape, const RouteOperands& operands, const Counters& counts,
                  Score score) {
  const std::int64_t routes = shape.tokens * shape.k;
  Counters end{};
  auto* grouped = static_cast<std::int32_t*>(operands.weight);
  for (std::int64_t e = 1; e < shape.experts; ++e) end[e] = end[e - 1] + counts[e - 1];
  for (std::int64_t r = 0; r < routes; ++r) {
    const std::int32_t e = operands.expert[r];
    if (e >= 0) grouped[end[e]++] = static_cast<std::int32_t>(r);
  }
  for (std::int64_t e = 0; e < shape.experts; ++e) {
    if (counts[e] <= shape.capacity) continue;
    std::int32_t* first = grouped + (end[e] - counts[e]);
    std::nth_element(first, first + shape.capacity, grouped + end[e],
                     [&](std::int32_t a, std::int32_t b) {
                       const auto score_a = score(a, e), score_b = score(b, e);
                       return score_a > score_b || (score_a == score_b && a < b);
                     });
    for (std::int32_t* r = first + shape.capacity; r != grouped + end[e]; ++r) {
      operands.expert[*r] = -1;
    }
  }
}

template <class T>
void drop_by_score(const Route& shape, const RouteOperands& operands, const Counters& counts) {
  if (shape.policy == DropPolicy::Probability) {
    const auto* probs = static_cast<const T*>(operands.probs);
    keep_highest(shape, operands, counts, [&](std::int32_t r, std::int64_t e) {
      return probs[r / shape.k * shape.experts + e];
    });
    return;
  }
  const RouteContext& context = operands.context;
  const std::uint64_t key = hash(context.seed, static_cast<std::uint64_t>(context.step),
                                 static_cast<std::uint64_t>(context.layer));
  keep_highest(shape, operands, counts, [&](std::int32_t t, std::int64_t e) {
    if (operands.uniform != nullptr) return operands.uniform[t * shape.experts + e];
    return uniform(key, static_cast<std::uint64_t>(context.token_base + t),
                   static_cast<std::uint64_t>(e));
  });
}

void assign_slots(const Route& shape, const RouteOperands& operands, const Counters& firsts) {
  const bool limited = shape.policy == DropPolicy::Position && shape.capacity > 0;
  const std::int64_t limit = limited ? shape.capacity : std::numeric_limits<std::int64_t>::max();
  Counters next{};
  const auto assign = [&](std::int64_t r) {
    std::int32_t& e = operands.expert[r];
    const std::int32_t place = e >= 0 ? next[e]++ : -1;
    if (place >= limit) e = -1;
    if (operands.slot != nullptr) operands.slot[r] = e >= 0 ? place : -1;
  };
  const std::int64_t routes = shape.tokens * shape.k;
  if (shape.k == 2 && shape.policy != DropPolicy::Probability) {
    for (std::int64_t r = 0; r < routes; r += 2) assign(r);
    next = firsts;
    for (std::int64_t r = 1; r < routes; r += 2) assign(r);
  } else {
    for (std::int64_t r = 0; r < routes; ++r) assign(r);
  }
}

template <class T>
T surviving_sum(const T* probs, const std::int32_t* expert, std::int64_t k) {
  T sum = 0;
  for (std::int64_t c = 0; c < k; ++c) sum += expert[c] >= 0 ? probs[expert[c]] : T(0);
  return sum;
}

template <class T>
void write_weights(const Route& shape, const RouteOperands& operands) {
  const auto* probs = static_cast<const T*>(operands.probs);
  const std::int32_t* expert = operands.expert;
  auto* weight = static_cast<T*>(operands.weight);
  const std::int64_t k = shape.k;
  for (std::int64_t t = 0; t < shape.tokens;
       ++t, probs += shape.experts, expert += k, weight += k) {
    const T sum = k == 1 ? T(1) : surviving_sum(probs, expert, k);
    const T divisor = std::max(sum, std::numeric_limits<T>::epsilon());
    for (std::int64_t c = 0; c < k; ++c) {
      weight[c] = expert[c] >= 0 ? probs[expert[c]] / divisor : T(0);
    }
  }
}

// d_probs += gradient of the weights of one token.
template <class T>
void weight_gradient(std::int64_t k, const T* probs, const std::int32_t* expert,
                     std::array<const T*, 2> weight_and_gradient, T* d_probs) {
  const auto [weight, d_weight] = weight_and_gradient;
  if (k == 1) {
    if (expert[0] >= 0) d_probs[expert[0]] += d_weight[0];
    return;
  }
  const T sum = surviving_sum(probs, expert, k);
  const bool clamped = sum < std::numeric_limits<T>::epsilon();
  T mean = 0;
  for (std::int64_t c = 0; c < k && !clamped; ++c) mean += weight[c] * d_weight[c];
  const T divisor = std::max(sum, std::numeric_limits<T>::epsilon());
  for (std::int64_t c = 0; c < k; ++c) {
    if (expert[c] >= 0) d_probs[expert[c]] += (d_weight[c] - mean) / divisor;
  }
}

}  // namespace

template <class T>
void route(const Route& shape, const RouteOperands& operands) {
  softmax(shape.tokens, shape.experts, static_cast<const T*>(operands.logits),
          static_cast<T*>(operands.probs));
  choose<T>(shape, operands);
  const Counters firsts = count(shape, operands.expert, 1);
  const Counters all = shape.k == 1 ? firsts : count(shape, operands.expert, shape.k);
  write_stats<T>(shape, operands, shape.k > 2 ? all : firsts);
  if (operands.exp_counts != nullptr) {
    std::copy_n(all.begin(), shape.experts, operands.exp_counts);
  }
  const bool by_score =
      shape.policy == DropPolicy::Random || shape.policy == DropPolicy::Probability;
  if (by_score && shape.capacity > 0) drop_by_score<T>(shape, operands, all);
  assign_slots(shape, operands, firsts);
  write_weights<T>(shape, operands);
}

template <class T>
void route_grad(const RouteGrad& shape, const RouteGradOperands& operands) {
  const std::int64_t experts = shape.experts, k = shape.k;
  const auto* stats = static_cast<const T*>(operands.stats);
  std::array<T, kMaxExperts> balance{}, d_probs{};
  if (shape.aux_scale != 0) {
    const double choices = k > 2 ? static_cast<double>(k) : 1.0;
    const double scale = shape.aux_scale * static_cast<double>(experts) /
                         (choices * shape.tokens_counted * shape.tokens_counted);
    for (std::int64_t e = 0; e < experts; ++e) {
      balance[e] = static_cast<T>(scale * static_cast<double>(stats[e]));
    }
  }
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    const T* probs = static_cast<const T*>(operands.probs) + t * experts;
    T* d_logits = static_cast<T*>(operands.d_logits) + t * experts;
    std::copy_n(balance.begin(), experts, d_probs.begin());
    weight_gradient<T>(k, probs, operands.expert + t * k,
                       {static_cast<const T*>(operands.weight) + t * k,
                        static_cast<const T*>(operands.d_weight) + t * k},
                       d_probs.data());
    T mean = 0;
    IMHOTEP_REDUCE(+ : mean)
    for (std::int64_t e = 0; e < experts; ++e) mean += probs[e] * d_probs[e];
    for (std::int64_t e = 0; e < experts; ++e) d_logits[e] = probs[e] * (d_probs[e] - mean);
  }
}

template void route<float>(const Route&, const RouteOperands&);
template void route<double>(const Route&, const RouteOperands&);
template void route_grad<float>(const RouteGrad&, const RouteGradOperands&);
template void route_grad<double>(const RouteGrad&, const RouteGradOperands&);

}  // namespace imhotep::kernels::cpu
