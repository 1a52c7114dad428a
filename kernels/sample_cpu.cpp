// Only as many candidates are sorted as the limits ask for; without limits none is.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/random.h"
#include "kernels/cross_entropy.h"
#include "kernels/sample.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
struct Candidate {
  T logit;
  std::int32_t token;
};
static_assert(sizeof(Candidate<float>) <= 2 * sizeof(float));
static_assert(sizeof(Candidate<double>) <= 2 * sizeof(double));

// The more probable one first; of equals the one with the lower number, so the order is total.
template <class T>
bool comes_first(const Candidate<T>& a, const Candidate<T>& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// Fills `all` with the valid words of one row, in order of their numbers.
template <class T>
void gather(const Sample& shape, const SampleOperands& operands, std::int64_t row,
            Candidate<T>* all) {
  for (std::int64_t token = 0; token < shape.valid;) {
    const std::int64_t part = token / shape.cols;
    const T* logits =
        static_cast<const T*>(operands.logits) + (part * shape.rows + row) * shape.cols;
    const std::int64_t end = std::min(shape.valid, (part + 1) * shape.cols);
    for (; token < end; ++token) {
      all[token] = {.logit = logits[token - part * shape.cols],
                    .token = static_cast<std::int32_t>(token)};
    }
  }
}

template <class T>
double log_of_sum(const Sample& shape, const SampleOperands& operands, std::int64_t row) {
  constexpr std::int32_t kNone = -1;
  double high = -std::numeric_limits<double>::infinity(), sum = 0;
  for (std::int64_t part = 0; part < shape.parts; ++part) {
    T stats[3];
    const T* logits =
        static_cast<const T*>(operands.logits) + (part * shape.rows + row) * shape.cols;
    softmax_stats<T>(
        {.rows = 1, .cols = shape.cols, .vocab_begin = part * shape.cols, .valid = shape.valid},
        {.logits = logits, .targets = &kNone, .stats = stats});
    if (stats[1] <= 0) continue;
    const auto part_high = static_cast<double>(stats[0]);
    const double both = std::max(high, part_high);
    sum = sum * std::exp(high - both) + static_cast<double>(stats[1]) * std::exp(part_high - both);
    high = both;
  }
  return high + std::log(sum);
}

template <class T>
struct Weights {
  T high = 0;
  double temperature = 1;
  double operator()(const Candidate<T>& candidate) const {
    return std::exp(static_cast<double>(candidate.logit - high) / temperature);
  }
};

template <class T>
double sum_of_weights(const Candidate<T>* first, std::int64_t count, const Weights<T>& weight) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += weight(first[i]);
  return sum;
}

template <class T>
void sort_first(Candidate<T>* all, std::int64_t count, std::int64_t wanted) {
  if (wanted < count) std::nth_element(all, all + wanted, all + count, comes_first<T>);
  std::sort(all, all + wanted, comes_first<T>);
}

// Moves the words within the limits to the front and returns how many they are.
template <class T>
std::int64_t limit(Candidate<T>* all, std::int64_t count, const SampleParameters& by,
                   const Weights<T>& weight) {
  if (by.top_k > 0 && by.top_k < count) {
    sort_first(all, count, by.top_k);
    count = by.top_k;
  }
  if (!(by.top_p > 0 && by.top_p < 1)) return count;
  const double wanted = by.top_p * sum_of_weights(all, count, weight);
  for (std::int64_t sorted = std::min<std::int64_t>(64, count);;) {
    sort_first(all, count, sorted);
    double sum = 0;
    for (std::int64_t i = 0; i < sorted; ++i) {
      sum += weight(all[i]);
      if (sum >= wanted) return i + 1;
    }
    if (sorted == count) return count;
    sorted = std::min(8 * sorted, count);
  }
}

template <class T>
Candidate<T> draw(Candidate<T>* all, std::int64_t count, const SampleParameters& by) {
  const Candidate<T> best = *std::min_element(all, all + count, comes_first<T>);
  if (by.temperature == 0) return best;
  const Weights<T> weight{.high = best.logit, .temperature = by.temperature};
  const std::int64_t kept = limit(all, count, by, weight);
  double left = uniform(by.seed, by.counter) * sum_of_weights(all, kept, weight);
  for (std::int64_t i = 0; i < kept; ++i) {
    left -= weight(all[i]);
    if (left < 0) return all[i];
  }
  return best;
}

}  // namespace

template <class T>
void sample(const Sample& shape, const SampleOperands& operands) {
  auto* all = static_cast<Candidate<T>*>(operands.scratch);
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    gather(shape, operands, row, all);
    const Candidate<T> chosen = draw(all, shape.valid, operands.parameters[row]);
    operands.tokens[row] = chosen.token;
    static_cast<T*>(operands.logprob)[row] =
        static_cast<T>(static_cast<double>(chosen.logit) - log_of_sum<T>(shape, operands, row));
  }
}
template void sample<float>(const Sample& shape, const SampleOperands& operands);
template void sample<double>(const Sample& shape, const SampleOperands& operands);

}  // namespace imhotep::kernels::cpu
