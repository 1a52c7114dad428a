// The choice of a GPU is that of the CPU: the same function of seed and counter.

#include "kernels/sample.h"

#include "tests/kernels/cuda/dense_support.h"

namespace imhotep::kernels::test {
namespace {

struct Chosen {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprob;
};

Chosen on_cpu(const Sample& shape, const std::vector<float>& logits,
              const std::vector<SampleParameters>& by) {
  Chosen out{.tokens = std::vector<std::int32_t>(by.size()),
             .logprob = std::vector<float>(by.size())};
  std::vector<std::int64_t> scratch(
      static_cast<std::size_t>(sample_scratch_elements(shape) / 2 + 1));
  sample(kCpu, shape,
         {logits.data(), by.data(), out.tokens.data(), out.logprob.data(), scratch.data()});
  return out;
}

void check_sample(const DeviceQueue& queue, const Sample& shape, const std::vector<float>& logits,
                  const std::vector<SampleParameters>& by) {
  const Chosen expected = on_cpu(shape, logits, by);
  const auto of_logits = queue.upload(logits);
  const auto parameters = queue.upload_raw(by);
  const auto tokens = queue.poisoned(shape.rows, Dtype::I32),
             logprob = queue.poisoned(shape.rows, Dtype::F32);
  sample(queue, shape,
         {of_logits.data(), static_cast<const SampleParameters*>(parameters.data()),
          static_cast<std::int32_t*>(tokens.data()), logprob.data(), nullptr});
  CHECK(queue.download_raw<std::int32_t>(tokens) == expected.tokens);
  check_close(queue.download(logprob, Dtype::F32), expected.logprob, chained_tolerance(Dtype::F32));
}

// Every kind of limits, with different counters.
std::vector<SampleParameters> all_kinds(std::int64_t rows, std::uint64_t seed) {
  const SampleParameters kinds[] = {
      {},
      {.temperature = 1},
      {.temperature = 0.7, .top_k = 50},
      {.temperature = 1, .top_p = 0.9},
      {.temperature = 1.3, .top_p = 0.95, .top_k = 200},
      {.temperature = 4, .top_p = 0.97},
      {.temperature = 2, .top_k = 7000},
      {.temperature = 3, .top_p = 0.999, .top_k = 30000},
      {.temperature = 0.01, .top_p = 0.5},
      {.temperature = 1, .top_k = 1},
      {.temperature = 1, .top_p = 1.5, .top_k = -3},
  };
  std::vector<SampleParameters> by;
  for (std::int64_t row = 0; row < rows; ++row) {
    by.push_back(kinds[static_cast<std::size_t>(row) % std::size(kinds)]);
    by.back().seed = seed;
    by.back().counter = static_cast<std::uint64_t>(row);
  }
  return by;
}

TEST_CASE("the next word on a GPU is the CPU's, under every limit") {
  on_each_type([](const DeviceQueue& queue) {
    for (const std::uint64_t seed : {1, 2, 3}) {
      CAPTURE(seed);
      const Sample shape{.rows = 22, .cols = 50304, .parts = 1, .valid = 50257};
      check_sample(queue, shape, random_values(22 * 50304, seed, queue.dtype(), 2.5F),
                   all_kinds(22, seed));
    }
  });
}

TEST_CASE("how the vocabulary is divided does not change the choice on a GPU") {
  on_each_type([](const DeviceQueue& queue) {
    const Sample shape{.rows = 33, .cols = 2500, .parts = 4, .valid = 9001};
    check_sample(queue, shape, random_values(33 * 10000, 4, queue.dtype(), 2), all_kinds(33, 5));
    const Sample odd{.rows = 11, .cols = 33, .parts = 3, .valid = 70};
    check_sample(queue, odd, random_values(11 * 99, 5, queue.dtype(), 2), all_kinds(11, 6));
    const Sample one{.rows = 11, .cols = 1, .parts = 1, .valid = 1};
    check_sample(queue, one, random_values(11, 6, queue.dtype()), all_kinds(11, 7));
    sample(queue, {.rows = 0, .cols = 8, .parts = 1, .valid = 8}, {});
  });
}

TEST_CASE("equal words are taken in order of their numbers, however many there are") {
  on_each_type([](const DeviceQueue& queue) {
    const Sample shape{.rows = 22, .cols = 12000, .parts = 1, .valid = 11999};
    std::vector<float> logits(22 * 12000, 0.0F);
    for (std::size_t i = 0; i < logits.size(); i += 97) logits[i] = i % 2 == 0 ? 1.0F : -0.0F;
    check_sample(queue, shape, logits, all_kinds(22, 8));
  });
}

}  // namespace
}  // namespace imhotep::kernels::test
