#include "kernels/sample.h"

#include <map>

#include "core/base/error.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

struct Choice {
  std::int32_t token = -1;
  double logprob = 0;
};

// One row; `parts` divides the columns.
template <class T>
Choice choose(const std::vector<T>& logits, std::int64_t parts, std::int64_t valid,
              const SampleParameters& parameters) {
  const Sample shape{1, static_cast<std::int64_t>(logits.size()) / parts, parts, valid};
  std::vector<T> scratch(sample_scratch_elements(shape)), logprob(1);
  Choice out;
  sample(queue_of<T>(), shape,
         {logits.data(), &parameters, &out.token, logprob.data(), scratch.data()});
  out.logprob = static_cast<double>(logprob[0]);
  return out;
}

std::map<std::int32_t, int> draw_many(const std::vector<double>& logits, SampleParameters by,
                                      int draws) {
  std::map<std::int32_t, int> counts;
  for (int i = 0; i < draws; ++i) {
    by.counter = static_cast<std::uint64_t>(i);
    ++counts[choose(logits, 1, static_cast<std::int64_t>(logits.size()), by).token];
  }
  return counts;
}

TEST_CASE("temperature 0 chooses the most probable valid word, of equals the first") {
  const std::vector<float> logits = {1, 5, 2, 5, 9, 9, 0, 0};
  for (const std::int64_t parts : {1, 2, 4}) {
    CHECK(choose(logits, parts, 4, {}).token == 1);
    CHECK(choose(logits, parts, 8, {}).token == 4);
    CHECK(choose(logits, parts, 1, {}).token == 0);
  }
}

TEST_CASE("the log probability is that of the unlimited distribution at temperature 1") {
  const auto logits = Random(101).normals<double>(40);
  double sum = 0;
  for (int i = 0; i < 37; ++i) sum += std::exp(logits[i]);
  const Choice choice = choose(logits, 4, 37, {.temperature = 0.5, .top_k = 5, .seed = 3});
  CHECK(choice.logprob == doctest::Approx(logits[choice.token] - std::log(sum)).epsilon(1e-12));
  const Choice single = choose(cast<float>(logits), 4, 37, {});
  CHECK(single.logprob == doctest::Approx(logits[single.token] - std::log(sum)).epsilon(1e-6));
}

TEST_CASE("draws follow the tempered distribution") {
  const std::vector<double> logits = {0, std::log(2.0) / 2, std::log(5.0) / 2};
  const auto counts = draw_many(logits, {.temperature = 0.5, .seed = 17}, 16000);
  const double expected[] = {2000, 4000, 10000};
  for (std::int32_t token = 0; token < 3; ++token) {
    CHECK(std::abs(counts.at(token) - expected[token]) < 5 * std::sqrt(expected[token]));
  }
}

TEST_CASE("top_k and top_p keep the most probable words and their proportions") {
  std::vector<double> logits(700, -30);
  logits[600] = std::log(4.0);
  logits[13] = std::log(3.0);
  logits[14] = std::log(2.0);
  logits[699] = std::log(1.0);
  const auto two = draw_many(logits, {.temperature = 1, .top_k = 2, .seed = 1}, 7000);
  CHECK(two.size() == 2);
  CHECK(std::abs(two.at(600) - 4000) < 200);
  CHECK(std::abs(two.at(13) - 3000) < 200);
  const auto most = draw_many(logits, {.temperature = 1, .top_p = 0.75, .seed = 2}, 9000);
  CHECK(most.size() == 3);  // 0.4 + 0.3 < 0.75 <= 0.4 + 0.3 + 0.2
  CHECK(std::abs(most.at(14) - 2000) < 200);
  const auto both = draw_many(logits, {.temperature = 1, .top_p = 0.5, .top_k = 2}, 500);
  CHECK(both.size() == 1);  // 4/7 of what top_k leaves
  CHECK(both.contains(600));
}

TEST_CASE("top_p over a flat distribution keeps its share of the words, the first ones") {
  const std::vector<double> logits(1000, 0.25);
  const auto counts = draw_many(logits, {.temperature = 1, .top_p = 0.2995, .seed = 5}, 6000);
  CHECK(counts.rbegin()->first == 299);
  CHECK(counts.size() == 300);
}

TEST_CASE("a choice depends on seed and counter, not on how the vocabulary is divided") {
  const auto logits = Random(102).normals<float>(240);
  int different = 0;
  for (std::uint64_t counter = 0; counter < 200; ++counter) {
    CAPTURE(counter);
    const SampleParameters by{.temperature = 1.3,
                              .top_p = counter % 2 == 0 ? 1 : 0.9,
                              .top_k = counter % 3 == 0 ? 30 : 0,
                              .seed = 8,
                              .counter = counter};
    const Choice whole = choose(logits, 1, 233, by), divided = choose(logits, 6, 233, by);
    CHECK(whole.token == divided.token);
    CHECK(whole.logprob == doctest::Approx(divided.logprob).epsilon(1e-6));
    SampleParameters other = by;
    other.seed = 9;
    different += choose(logits, 1, 233, other).token != whole.token ? 1 : 0;
  }
  CHECK(different > 150);
}

TEST_CASE("a negative temperature and an empty vocabulary are refused") {
  const std::vector<float> logits(4);
  CHECK_THROWS_AS(choose(logits, 1, 4, {.temperature = -1}), Error);
  CHECK_THROWS_AS(choose(logits, 1, 4, {.temperature = std::nan("")}), Error);
  CHECK_THROWS_AS(choose(logits, 1, 0, {}), Error);
  CHECK_THROWS_AS(choose(logits, 1, 5, {}), Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
