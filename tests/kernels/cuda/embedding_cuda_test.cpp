#include "kernels/embedding.h"

#include "tests/kernels/cuda/dense_support.h"

namespace imhotep::kernels::test {
namespace {

constexpr std::int64_t kWords = 300, kPositions = 64;

struct Tokens {
  std::vector<std::int32_t> token, position;
};

// A third is one word, some are padding, positions run as in sequences.
Tokens tokens_of(std::int64_t rows, std::uint64_t seed) {
  Tokens t;
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto row = static_cast<std::uint64_t>(i);
    const std::uint64_t kind = hash(seed, row) % 12;
    const auto word = static_cast<std::int32_t>(hash(seed, row, 1) % kWords);
    t.token.push_back(kind < 4 ? 17 : kind == 4 ? -1 : word);
    t.position.push_back(static_cast<std::int32_t>(i % kPositions));
  }
  return t;
}

struct Part {
  std::int64_t rows, hidden, begin, count;
};
constexpr Part kParts[] = {{1, 1, 0, kWords},    {40, 33, 0, kWords},    {999, 24, 10, 100},
                           {1000, 24, 200, 100}, {700, 1024, 0, kWords}, {5000, 8, 0, 18},
                           {20, 16, 290, 0}};

TEST_CASE("embedding on a GPU agrees with the CPU") {
  on_each_type([](const DeviceQueue& queue) {
    for (const Part& p : kParts) {
      for (const bool add_position : {true, false}) {
        CAPTURE(p.rows);
        CAPTURE(p.hidden);
        const Tokens t = tokens_of(p.rows, 3);
        const auto words = random_values(p.count * p.hidden, 1, queue.dtype()),
                   positions = random_values(kPositions * p.hidden, 2, queue.dtype());
        const Embedding shape{p.rows, p.hidden, p.begin, p.count, add_position};
        std::vector<float> expected(static_cast<std::size_t>(p.rows * p.hidden));
        embedding(
            kCpu, shape,
            {t.token.data(), t.position.data(), words.data(), positions.data(), expected.data()});
        const auto token = queue.upload_raw(t.token), position = queue.upload_raw(t.position);
        const auto of_words = queue.upload(words), of_positions = queue.upload(positions);
        const auto out = queue.poisoned(p.rows * p.hidden);
        embedding(
            queue, shape,
            {table(token), table(position), of_words.data(), of_positions.data(), out.data()});
        check_close(queue.download(out), expected, tolerance(queue.dtype()));
      }
    }
    embedding(queue, {0, 8, 0, 8, true}, {});
  });
}

TEST_CASE("embedding_grad on a GPU agrees with the CPU and repeats its bits") {
  on_each_type([](const DeviceQueue& queue) {
    for (const Part& p : kParts) {
      CAPTURE(p.rows);
      CAPTURE(p.hidden);
      const Tokens t = tokens_of(p.rows, 5);
      const auto dy = random_values(p.rows * p.hidden, 1, queue.dtype()),
                 words = random_values(p.count * p.hidden, 2, queue.dtype()),
                 positions = random_values(kPositions * p.hidden, 3, queue.dtype());
      auto expected_words = words, expected_positions = positions;
      const EmbeddingGrad shape{p.rows, p.hidden, p.begin, p.count};
      embedding_grad(kCpu, shape,
                     {t.token.data(), t.position.data(), dy.data(), expected_words.data(),
                      expected_positions.data()});
      const auto token = queue.upload_raw(t.token), position = queue.upload_raw(t.position);
      const auto of_dy = queue.upload(dy);
      const auto first = queue.upload(words), second = queue.upload(words),
                 at_first = queue.upload(positions), at_second = queue.upload(positions);
      embedding_grad(queue, shape,
                     {table(token), table(position), of_dy.data(), first.data(), at_first.data()});
      embedding_grad(
          queue, shape,
          {table(token), table(position), of_dy.data(), second.data(), at_second.data()});
      check_close(repeated(queue, first, second, queue.dtype()), expected_words,
                  chained_tolerance(queue.dtype()));
      check_close(repeated(queue, at_first, at_second, queue.dtype()), expected_positions,
                  chained_tolerance(queue.dtype()));
    }
    embedding_grad(queue, {0, 8, 0, 8}, {});
  });
}

TEST_CASE("words of all rows of a batch are summed, however often they occur") {
  on_each_type([](const DeviceQueue& queue) {
    constexpr std::int64_t kRows = 16384, kHidden = 16;
    std::vector<std::int32_t> tokens(kRows, 1);
    for (std::int64_t i = 0; i < kRows; i += 2) tokens[static_cast<std::size_t>(i)] = 0;
    const std::vector<float> dy(kRows * kHidden, 0.5F);
    const auto token = queue.upload_raw(tokens);
    const auto of_dy = queue.upload(dy), out = queue.upload(std::vector<float>(3 * kHidden, 1));
    embedding_grad(queue, {kRows, kHidden, 0, 3},
                   {.tokens = table(token), .dy = of_dy.data(), .dtable = out.data()});
    const auto sums = queue.download(out);
    const float all = 0.25F * kRows + 1;
    CHECK(sums[0] == (queue.dtype() == Dtype::Bf16 ? from_bf16(to_bf16(all)) : all));
    CHECK(sums[kHidden] == sums[0]);
    CHECK(sums[2 * kHidden] == 1);
  });
}

}  // namespace
}  // namespace imhotep::kernels::test
