#include "kernels/attention_cached.h"

#include <numeric>

#include "core/base/error.h"
#include "kernels/attention.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

constexpr std::int64_t kPageSize = 6, kMaxPages = 5, kSequences = 3;

template <class T>
struct Cache {
  std::int64_t heads, dim;
  Table blocks;
  std::vector<T> k, v;

  // Pages are dealt out of order; unused slots hold NaN, so that reading one shows.
  Cache(std::int64_t heads_count, std::int64_t head_dim, std::uint64_t seed)
      : heads(heads_count), dim(head_dim), blocks(kSequences * kMaxPages) {
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(seed));
    const auto elements = blocks.size() * kPageSize * heads * dim;
    k.assign(elements, std::numeric_limits<T>::quiet_NaN());
    v = k;
  }

  std::vector<T> step(const std::vector<T>& qkv, const Table& positions, const Table& sequences) {
    const AttentionCached shape{.rows = static_cast<std::int64_t>(positions.size()),
                                .heads = heads,
                                .head_dim = dim,
                                .page_size = kPageSize,
                                .max_pages = kMaxPages};
    std::vector<T> ctx(shape.rows * heads * dim, T(99));
    std::vector<T> scratch(attention_cached_scratch_elements(shape));
    attention_cached(queue_of<T>(), shape,
                     {qkv.data(), positions.data(), sequences.data(), blocks.data(), k.data(),
                      v.data(), ctx.data(), scratch.data()});
    return ctx;
  }
};

template <class T>
std::vector<T> rows_of(const std::vector<T>& all, std::int64_t width,
                       const std::vector<std::int64_t>& rows) {
  std::vector<T> out;
  for (const std::int64_t row : rows) {
    out.insert(out.end(), all.begin() + row * width, all.begin() + (row + 1) * width);
  }
  return out;
}

// Three sequences, fed in chunks of 5 rows and single rows interleaved with padding.
template <class T>
void check_against_full(std::int64_t heads, std::int64_t dim, double tolerance) {
  CAPTURE(heads);
  CAPTURE(dim);
  const Attention full{.batch = kSequences, .heads = heads, .sequence = 23, .head_dim = dim};
  const std::int64_t width = heads * dim;
  const auto qkv = Random(61).normals<T>(kSequences * full.sequence * 3 * width);
  std::vector<T> expected(kSequences * full.sequence * width), lse(kSequences * heads * 23),
      scratch(attention_scratch_elements(full));
  attention(queue_of<T>(), full, {qkv.data(), expected.data(), lse.data(), scratch.data()});

  Cache<T> cache(heads, dim, 62);
  const std::int64_t chunk[kSequences] = {5, 1, 4};
  std::int64_t done[kSequences] = {};
  while (done[0] < 23 || done[1] < 23 || done[2] < 23) {
    Table positions, sequences;
    std::vector<std::int64_t> rows;
    for (std::int64_t s = 0; s < kSequences; ++s) {
      for (std::int64_t i = 0; i < chunk[s] && done[s] < 23; ++i, ++done[s]) {
        positions.push_back(static_cast<std::int32_t>(done[s]));
        sequences.push_back(static_cast<std::int32_t>(s));
        rows.push_back(s * 23 + done[s]);
      }
      positions.push_back(-1);
      sequences.push_back(0);
      rows.push_back(0);
    }
    auto want = rows_of(expected, width, rows);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (positions[i] < 0) std::fill_n(want.begin() + i * width, width, T(0));
    }
    CHECK(scaled_error(cache.step(rows_of(qkv, 3 * width, rows), positions, sequences), want) <
          tolerance);
  }
}

TEST_CASE("step by step over scattered pages equals attention over whole sequences") {
  check_against_full<double>(2, 3, 1e-12);
  check_against_full<double>(1, 8, 1e-12);
  check_against_full<double>(3, 20, 1e-12);
  check_against_full<float>(2, 16, 5e-6);
  check_against_full<float>(3, 37, 5e-6);
  check_against_full<float>(4, 64, 5e-6);
}

TEST_CASE("a position beyond the pages of a sequence is refused") {
  Cache<float> cache(1, 4, 63);
  CHECK_THROWS_WITH_AS(cache.step(std::vector<float>(12), {30}, {0}),
                       "attention_cached: row 0: expected a position below 30, got 30", Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
