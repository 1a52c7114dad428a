#include "kernels/embedding.h"

#include "kernels/elementwise.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

constexpr std::int64_t kRows = 6, kHidden = 19, kVocab = 10, kPositions = 4;
const Table kTokens = {3, 9, -1, 0, 3, 7};
const Table kPlaces = {0, 1, 2, 3, 1, 1};

TEST_CASE("the parts of a divided table sum to the whole, positions added once") {
  Random random(41);
  const auto table = random.normals<double>(kVocab * kHidden);
  const auto positions = random.normals<double>(kPositions * kHidden);
  std::vector<double> expected(kRows * kHidden), sum(kRows * kHidden);
  for (std::int64_t i = 0; i < kRows * kHidden; ++i) {
    const std::int64_t row = i / kHidden, column = i % kHidden;
    if (kTokens[row] < 0) continue;
    expected[i] =
        table[kTokens[row] * kHidden + column] + positions[kPlaces[row] * kHidden + column];
  }
  for (const auto& [begin, count] : {std::pair{0, 4}, std::pair{4, 5}, std::pair{9, 1}}) {
    std::vector<double> part(kRows * kHidden, 99);
    embedding(queue_of<double>(), {kRows, kHidden, begin, count, begin == 0},
              {kTokens.data(), kPlaces.data(), table.data() + begin * kHidden, positions.data(),
               part.data()});
    add(queue_of<double>(), {kRows * kHidden}, {part.data(), sum.data()});
  }
  CHECK(scaled_error(sum, expected) < 1e-15);
}

TEST_CASE("the gradient is scattered to the rows that were read") {
  Random random(42);
  auto table = random.normals<double>(kVocab * kHidden);
  auto positions = random.normals<double>(kPositions * kHidden);
  const auto dy = random.normals<double>(kRows * kHidden);
  std::vector<double> y(kRows * kHidden);
  const auto loss = [&] {
    embedding(
        queue_of<double>(), {kRows, kHidden, 2, 6, true},
        {kTokens.data(), kPlaces.data(), table.data() + 2 * kHidden, positions.data(), y.data()});
    return dot(dy, y);
  };
  std::vector<double> dtable(kVocab * kHidden, 1), dpositions(kPositions * kHidden, 2);
  EmbeddingGradOperands operands{kTokens.data(), kPlaces.data(), dy.data(),
                                 dtable.data() + 2 * kHidden, dpositions.data()};
  embedding_grad(queue_of<double>(), {kRows, kHidden, 2, 6}, operands);
  auto want_table = numeric_gradient(table, loss);
  auto want_positions = numeric_gradient(positions, loss);
  for (double& value : want_table) value += 1;
  for (double& value : want_positions) value += 2;
  CHECK(scaled_error(dtable, want_table) < 1e-8);
  CHECK(scaled_error(dpositions, want_positions) < 1e-8);

  operands.dposition_table = nullptr;
  operands.positions = nullptr;
  embedding_grad(queue_of<double>(), {kRows, kHidden, 2, 6}, operands);
  CHECK(dtable[3 * kHidden] == doctest::Approx(1 + 2 * (want_table[3 * kHidden] - 1)));
}

TEST_CASE("an embedding without positions needs none") {
  const std::vector<float> table(kVocab * kHidden, 2);
  std::vector<float> y(kRows * kHidden);
  embedding(queue_of<float>(), {kRows, kHidden, 0, kVocab, false},
            {kTokens.data(), nullptr, table.data(), nullptr, y.data()});
  CHECK(y[0] == 2);
  CHECK(y[2 * kHidden] == 0);
  embedding(queue_of<float>(), {0, kHidden, 0, kVocab, true}, {});
}

}  // namespace
}  // namespace imhotep::kernels::test
