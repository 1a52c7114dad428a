#include "executor/data/sampler.h"

#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

// Token i is i, so that a window shows where it came from.
TokenFile counting_tokens(const ScratchFolder& folder, int count) {
  const std::string file = folder.path("counting.tokens");
  TokenFileWriter writer(file, {.vocab = 1 << 20});
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(i);
  writer.append(tokens);
  writer.finish();
  return TokenFile(file);
}

}  // namespace

TEST_CASE("a permutation takes every value once, for every count and key") {
  for (std::uint64_t key = 0; key < 5; ++key) {
    for (const std::int64_t count : {1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097}) {
      CAPTURE(key);
      CAPTURE(count);
      std::set<std::int64_t> seen;
      for (std::int64_t i = 0; i < count; ++i) seen.insert(permuted(i, count, key));
      CHECK(static_cast<std::int64_t>(seen.size()) == count);
      CHECK(*seen.begin() == 0);
      CHECK(*seen.rbegin() == count - 1);
    }
  }
}

TEST_CASE("every epoch reads every window once, in an order of its own") {
  const ScratchFolder folder;
  const TokenFile tokens = counting_tokens(folder, 1000);
  const Sampler sampler(tokens, {.sequence = 7, .seed = 3});
  CHECK(sampler.windows() == 142);
  std::vector<std::vector<std::int64_t>> epochs(3);
  for (std::int64_t n = 0; n < 3 * sampler.windows(); ++n) {
    epochs[n / sampler.windows()].push_back(sampler.offset(n));
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[1] != epochs[2]);
  int in_place = 0;
  for (auto& epoch : epochs) {
    for (std::size_t i = 0; i + 1 < epoch.size(); ++i) in_place += epoch[i] + 7 == epoch[i + 1];
    const std::set<std::int64_t> offsets(epoch.begin(), epoch.end());
    CHECK(offsets.size() == epoch.size());
    CHECK(*offsets.rbegin() == 141 * 7);
    for (const std::int64_t offset : offsets) CHECK(offset % 7 == 0);
  }
  CHECK(in_place < 15);  // neighbours stay neighbours about once an epoch
}

TEST_CASE("inputs and targets are one token apart") {
  const ScratchFolder folder;
  const TokenFile tokens = counting_tokens(folder, 100);
  const Sampler sampler(tokens, {.sequence = 5, .seed = 1});
  std::vector<std::int32_t> inputs(20), targets(20);
  sampler.fill(17, inputs, targets);
  for (int row = 0; row < 4; ++row) {
    for (int i = 0; i < 5; ++i) {
      CHECK(inputs[row * 5 + i] == sampler.offset(17 + row) + i);
      CHECK(targets[row * 5 + i] == inputs[row * 5 + i] + 1);
    }
  }
}

TEST_CASE("the data degree does not change what is read, and a run resumes from its step") {
  const ScratchFolder folder;
  const TokenFile tokens = counting_tokens(folder, 3000);
  constexpr std::int64_t kBatch = 8, kSequence = 16;
  const SamplerOptions options{.sequence = kSequence, .seed = 42};
  const Sampler whole(tokens, options);
  for (const std::int64_t degree : {1, 2, 4, 8}) {
    for (const std::int64_t step : {0, 1, 22, 23, 24, 1000}) {  // 187 windows: epochs end inside
      std::vector<std::int32_t> expected(kBatch * kSequence), expected_targets = expected;
      whole.fill(step * kBatch, expected, expected_targets);
      std::vector<std::int32_t> joined;
      for (std::int64_t rank = 0; rank < degree; ++rank) {
        const Sampler resumed(tokens, options);
        const std::int64_t share = kBatch / degree;
        CHECK(resumed.offset(step, kBatch, rank * share) ==
              whole.offset(step * kBatch + rank * share));
        std::vector<std::int32_t> inputs(share * kSequence), targets = inputs;
        resumed.fill(step * kBatch + rank * share, inputs, targets);
        joined.insert(joined.end(), inputs.begin(), inputs.end());
      }
      CHECK(joined == expected);
    }
  }
  const Sampler other(tokens, {.sequence = kSequence, .seed = 43});
  int same = 0;
  for (std::int64_t n = 0; n < whole.windows(); ++n) same += whole.offset(n) == other.offset(n);
  CHECK(same < 10);
}

TEST_CASE("evaluation reads the windows as they are written") {
  const ScratchFolder folder;
  const TokenFile tokens = counting_tokens(folder, 50);
  const Sampler sampler(tokens, {.sequence = 10, .order = WindowOrder::AsWritten});
  CHECK(sampler.windows() == 4);
  for (std::int64_t n = 0; n < 8; ++n) CHECK(sampler.offset(n) == n % 4 * 10);
}

TEST_CASE("a text shorter than one sequence is refused with both lengths") {
  const ScratchFolder folder;
  const TokenFile tokens = counting_tokens(folder, 16);
  CHECK_NOTHROW(Sampler(tokens, {.sequence = 15}));
  CHECK(holds(complaint([&] { Sampler(tokens, {.sequence = 16}); }),
              "a sequence of 16 needs 17 tokens, the text has 16"));
}

}  // namespace imhotep::executor
