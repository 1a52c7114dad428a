// Packing, exchange and return over random routes, degrees, lanes and copies, checked against the
// routes themselves; and the layout that the paper draws.

#include "kernels/dispatch.h"

#include <set>
#include <string>

#include "core/base/error.h"
#include "kernels/combine.h"
#include "tests/kernels/exchange_simulation.h"

namespace imhotep::kernels::test {
namespace {

// Rows of local expert e at this owner are exactly its kept routes, by source, token and choice.
void check_delivery(const World& w, const std::vector<Source>& sources, const Owner& owner) {
  for (std::int64_t e = 0; e < w.local(); ++e) {
    std::vector<double> expected;
    for (const Source& source : sources) {
      for (std::int64_t r = 0; r < w.routes(); ++r) {
        if (source.expert[r] != owner.rank * w.local() + e) continue;
        const auto row = source.tokens.begin() + r / w.k * w.hidden;
        expected.insert(expected.end(), row, row + w.hidden);
      }
    }
    const std::vector<double> got(owner.grouped.begin() + owner.offsets[e] * w.hidden,
                                  owner.grouped.begin() + owner.offsets[e + 1] * w.hidden);
    REQUIRE(got == expected);
  }
}

double expert_factor(std::int64_t expert, std::int64_t copy) {
  return static_cast<double>((expert + 2) * (copy + 1));
}

// Multiplies each row by its expert's factor and returns the rows in received order.
std::vector<double> compute(const World& w, const Owner& owner) {
  std::vector<double> out = owner.grouped;
  for (std::int64_t e = 0; e < w.local(); ++e) {
    const double factor = expert_factor(owner.rank * w.local() + e, owner.copy);
    for (std::int64_t i = owner.offsets[e] * w.hidden; i < owner.offsets[e + 1] * w.hidden; ++i) {
      out[i] *= factor;
    }
  }
  return gather(out, owner.index, owner.range, w.hidden, true);
}

// The rows of one source in full order, as they come back from all owners.
std::vector<double> returned(const World& w, const Source& source, std::size_t number,
                             const std::vector<Owner>& owners) {
  std::vector<double> rows(source.segments.back() * w.hidden, -9);
  for (const Owner& owner : owners) {
    const std::vector<double> back = compute(w, owner);
    std::int64_t skip = 0;
    for (std::size_t s = 0; s < number; ++s) skip += owner.from[s];
    const std::int64_t to =
        source.segments[owner.lane] + sum_of(source.counts[owner.lane], 0, owner.peer * w.local());
    std::copy_n(back.begin() + skip * w.hidden, owner.from[number] * w.hidden,
                rows.begin() + to * w.hidden);
  }
  return rows;
}

void check_return(const World& w, const Source& source, const std::vector<double>& rows,
                  Random& random) {
  const auto weight = random.normals<double>(w.routes());
  std::vector<double> y(w.tokens * w.hidden, -9), dn(w.tokens * w.hidden, 100.0);
  combine(queue_of<double>(), {w.tokens, w.k, w.copies, w.hidden},
          {rows.data(), nullptr, source.position.data(), weight.data(), y.data()});
  scatter_sum(queue_of<double>(), {w.tokens, w.k, w.copies, w.hidden, true},
              {rows.data(), nullptr, source.position.data(), dn.data()});
  std::vector<double> expected_y(y.size()), expected_dn(y.size(), 100.0);
  for (std::int64_t r = 0; r < w.routes(); ++r) {
    for (std::int64_t copy = 0; copy < w.copies && source.expert[r] >= 0; ++copy) {
      for (std::int64_t i = 0; i < w.hidden; ++i) {
        const std::int64_t at = r / w.k * w.hidden + i;
        const double value = source.tokens[at] * expert_factor(source.expert[r], copy);
        expected_y[at] += weight[r] * value;
        expected_dn[at] += value;
      }
    }
  }
  REQUIRE(scaled_error(y, expected_y) < 1e-13);
  REQUIRE(scaled_error(dn, expected_dn) < 1e-13);
}

World random_world(Random& random) {
  World w;
  w.lanes = std::int64_t{1} << random.between(0, 2);
  w.degree = w.lanes * random.between(1, 3);
  w.experts = w.degree * random.between(1, 3);
  w.copies = random.between(1, 3);
  w.k = random.between(1, std::min<std::int64_t>(3, w.experts));
  w.tokens = random.between(0, 25);
  w.hidden = random.between(1, 19);
  return w;
}

TEST_CASE("every kept route reaches each copy of its expert once, and comes back") {
  int with_lanes = 0, with_copies = 0, with_local = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const World w = random_world(random);
    with_lanes += w.lanes > 1;
    with_copies += w.copies > 1;
    with_local += w.local() > 1 && w.degree > 1;
    std::vector<Source> sources;
    for (std::int64_t s = 0; s < w.peers(); ++s) sources.push_back(make_source(w, random, s));
    const auto owners = exchange(w, sources);
    for (const Owner& owner : owners) check_delivery(w, sources, owner);
    for (std::size_t s = 0; s < sources.size(); ++s) {
      check_return(w, sources[s], returned(w, sources[s], s, owners), random);
    }
  }
  CHECK(with_lanes > 30);
  CHECK(with_copies > 30);
  CHECK(with_local > 30);
}

TEST_CASE("the shares of a tensor group cover every kept route once") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const std::int64_t tokens = 12, k = 2, copies = random.between(1, 2), shares = 3;
    const Table expert = random.table(tokens * k, -1, 5);
    std::int64_t rows = 0;
    for (std::int64_t share = 0; share < shares; ++share) {
      PackOrder shape{.tokens = tokens, .experts = 6, .k = k, .expert_degree = 3};
      shape.copies = copies;
      shape.token_begin = share * 4;
      shape.token_end = share * 4 + 4;
      const Packed packed = pack(shape, expert);
      std::set<std::int32_t> seen;
      for (std::int64_t i = 0; i < tokens * k * copies; ++i) {
        const std::int64_t t = i / (k * copies);
        const bool mine = t / 4 == share && expert[i / copies] >= 0;
        REQUIRE((packed.position[i] >= 0) == mine);
        if (!mine) continue;
        REQUIRE(seen.insert(packed.position[i]).second);
        REQUIRE(packed.order[packed.position[i]] == t);
      }
      REQUIRE(packed.segments == Table{0, static_cast<std::int32_t>(seen.size())});
      REQUIRE(sum_of(packed.counts, 0, 6 * copies) == static_cast<std::int64_t>(seen.size()));
      rows += static_cast<std::int64_t>(seen.size());
    }
    const auto dropped = std::count(expert.begin(), expert.end(), -1);
    CHECK(rows == (tokens * k - dropped) * copies);
  }
}

// Four GPUs with one expert each, tensor slicing 2: tokens A B C D on GPUs 0 and 1, E F G H on 2
// and 3, token i to expert i mod 4.
// Source: arXiv 2201.05596, section 5.3; the figure of the authors' SC22 talk, slide 16.
TEST_CASE("the coordinated exchange lays tokens out as the paper's figure does") {
  const World w{.experts = 4, .degree = 4, .lanes = 2, .tokens = 4, .hidden = 1};
  std::vector<Source> sources(2);
  for (int group = 0; group < 2; ++group) {
    Source& source = sources[group];
    for (int lane = 0; lane < 2; ++lane) {
      const Packed packed = pack(pack_shape(w, lane), {0, 1, 2, 3});
      source.segments = packed.segments;
      source.counts.push_back(packed.counts);
      for (int t = 0; t < 4; ++t) source.tokens.push_back('A' + 4 * group + t);
      source.send.push_back(gather(source.tokens, packed.order,
                                   {packed.segments[lane], packed.segments[lane + 1]}, 1));
    }
  }
  const auto letters = [](const std::vector<double>& rows) {
    return std::string(rows.begin(), rows.end());
  };
  CHECK(letters(sources[0].send[0]) == "AC");  // GPU 0
  CHECK(letters(sources[0].send[1]) == "BD");  // GPU 1
  CHECK(letters(sources[1].send[0]) == "EG");  // GPU 2
  CHECK(letters(sources[1].send[1]) == "FH");  // GPU 3
  std::vector<std::string> after;
  for (const Owner& owner : exchange(w, sources)) after.push_back(letters(owner.grouped));
  CHECK(after == std::vector<std::string>{"AE", "BF", "CG", "DH"});
}

TEST_CASE("windows of the full order add up to the whole") {
  Random random(4);
  const World w{
      .experts = 6, .degree = 6, .lanes = 3, .copies = 2, .k = 2, .tokens = 15, .hidden = 21};
  const Source source = make_source(w, random, 0);
  const auto rows = random.normals<float>(source.segments.back() * w.hidden);
  const Combine whole{w.tokens, w.k, w.copies, w.hidden};
  const auto weight = random.normals<float>(w.routes());
  std::vector<float> y(w.tokens * w.hidden), sum(y.size()), y_sum(y.size());
  std::vector<float> dn(y.size(), 5.0F), dn_sum(y.size(), -9.0F);
  combine(queue_of<float>(), whole,
          {rows.data(), nullptr, source.position.data(), weight.data(), y.data()});
  scatter_sum(queue_of<float>(), {w.tokens, w.k, w.copies, w.hidden, false},
              {rows.data(), nullptr, source.position.data(), dn.data()});
  for (std::int64_t lane = 0; lane < w.lanes; ++lane) {
    const std::int32_t* range = source.segments.data() + lane;
    const float* part = rows.data() + range[0] * w.hidden;
    combine(queue_of<float>(), whole,
            {part, range, source.position.data(), weight.data(), sum.data()});
    for (std::size_t i = 0; i < sum.size(); ++i) y_sum[i] += sum[i];
    scatter_sum(queue_of<float>(), {w.tokens, w.k, w.copies, w.hidden, lane > 0},
                {part, range, source.position.data(), dn_sum.data()});
  }
  CHECK(scaled_error(y_sum, y) < 1e-6);
  CHECK(scaled_error(dn_sum, dn) < 1e-6);
}

TEST_CASE("a range of rows is addressed from the start of the table, both ways") {
  const std::vector<float> in{10, 11, 12, 13, 14};
  const Table index{4, 3, 0, 2, 1}, range{1, 4};
  std::vector<float> out(5, -9.0F), back(5, -9.0F);
  gather_rows(queue_of<float>(), {{3, 0}, 1}, {in.data(), index.data(), range.data(), out.data()});
  CHECK(out == std::vector<float>{-9, 13, 10, 12, -9});
  gather_rows(queue_of<float>(), {{3, 0}, 1, true},
              {out.data(), index.data(), range.data(), back.data()});
  CHECK(back == std::vector<float>{10, -9, 12, 13, -9});
}

TEST_CASE("rows beyond the plan's bound are refused with both numbers") {
  const Table counts{3, 2, 4, 1};
  Table offsets(3), index(10), range(2);
  CHECK_THROWS_WITH(receive_order(queue_of<float>(), {2, 2, {9, 0}},
                                  {counts.data(), offsets.data(), index.data(), range.data()}),
                    "receive_order: 10 rows arrived, the plan's receive bound is 9");
  receive_order(queue_of<float>(), {2, 2, {10, 0}},
                {counts.data(), offsets.data(), index.data(), range.data()});
  CHECK(offsets == Table{0, 7, 10});
  CHECK(index == Table{0, 1, 2, 5, 6, 7, 8, 3, 4, 9});
  const Table wide_range{2, 5};
  CHECK_THROWS_WITH(gather_rows(queue_of<float>(), {{2, 0}, 1},
                                {nullptr, index.data(), wide_range.data(), nullptr}),
                    "gather_rows: 3 rows exceed the bound of 2");
}

TEST_CASE("impossible packings are refused") {
  const Table expert(8, 0);
  const auto refused = [&](PackOrder shape) { CHECK_THROWS_AS(pack(shape, expert), Error); };
  refused({.tokens = 8, .experts = 6, .token_end = 8, .expert_degree = 4});
  refused({.tokens = 8, .experts = 6, .token_end = 8, .expert_degree = 3, .lanes = 2});
  refused({.tokens = 8, .experts = 4, .token_end = 4, .expert_degree = 4, .lanes = 2});
  refused({.tokens = 8, .experts = 4, .token_end = 9});
}

}  // namespace
}  // namespace imhotep::kernels::test
