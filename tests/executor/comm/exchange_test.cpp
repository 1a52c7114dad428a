// Random counts between all ranks, known everywhere by hashing: what arrives, and what comes home,
// is computed by simple loops and compared byte by byte.

#include "executor/comm/exchange.h"

#include <doctest/doctest.h>

#include <array>
#include <numeric>

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/executor/comm/plans.h"
#include "tests/executor/mpi_main.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

using Row = std::array<std::int64_t, 5>;  // source, destination, expert there, number, answer

struct Counts {
  std::uint64_t seed = 0;
  int uniform = 0;  // > 0: every count is this
  std::int32_t operator()(Rank from, Rank to, std::int64_t expert) const {
    if (uniform > 0) return uniform;
    if (hash(seed, 1, from.value) % 4 == 0) return 0;  // a rank without tokens
    if (hash(seed, 2, to.value) % 5 == 0) return 0;    // a rank that nobody chooses
    const std::uint64_t h = hash(seed, from.value, to.value, expert);
    return h % 3 == 0 ? 0 : static_cast<std::int32_t>(h % 7);
  }
};

class Side {
 public:
  Side(const Plan& plan, Rank rank, Counts counts)
      : plan_(plan), moe_(plan.moe_layers[0]), rank_(rank), counts_(counts) {}

  [[nodiscard]] ExchangePlace place() const { return exchange_place(plan_, moe_, rank_); }
  [[nodiscard]] std::int64_t local() const { return moe_.experts / moe_.expert; }

  [[nodiscard]] std::vector<std::int32_t> sent() const { return table(true); }
  [[nodiscard]] std::vector<std::int32_t> received() const { return table(false); }

  // Rows packed at home; `answered`: as they come back.
  [[nodiscard]] std::vector<Row> home(bool answered) const { return list(true, answered); }
  [[nodiscard]] std::vector<Row> away(bool answered) const { return list(false, answered); }

 private:
  // Slicing peers that each get a copy: an all-gather sends all of them the rows of the first.
  [[nodiscard]] Rank target(Rank to) const {
    if (moe_.exchange != ExchangeAlgorithm::AllGather || place().copies == 1) return to;
    return Rank(to.value / moe_.slicing * moe_.slicing);
  }
  [[nodiscard]] std::int32_t count(Rank peer, std::int64_t e, bool out) const {
    return out ? counts_(rank_, target(peer), e) : counts_(peer, target(rank_), e);
  }
  [[nodiscard]] std::vector<std::int32_t> table(bool out) const {
    std::vector<std::int32_t> all;
    for (const Rank peer : place().group) {
      for (std::int64_t e = 0; e < local(); ++e) all.push_back(count(peer, e, out));
    }
    return all;
  }
  [[nodiscard]] std::vector<Row> list(bool out, bool answered) const {
    std::vector<Row> rows;
    for (const Rank peer : place().group) {
      const int from = out ? rank_.value : peer.value, to = out ? peer.value : rank_.value;
      for (std::int64_t e = 0; e < local(); ++e) {
        for (std::int64_t i = 0; i < count(peer, e, out); ++i) {
          rows.push_back({from, target(Rank(to)).value, e, i, answered ? 1000 * to + e : 0});
        }
      }
    }
    return rows;
  }

  const Plan& plan_;
  const MoeLayerPlan& moe_;
  Rank rank_;
  Counts counts_;
};

// Runs one layer there and back at this rank and compares with Side.
void check_exchange(const Plan& plan, CommunicatorPool& pool, Counts counts, Exchange& exchange) {
  const Rank own(test_bootstrap().rank());
  const Side side(plan, own, counts);
  const bool gathers = plan.moe_layers[0].exchange == ExchangeAlgorithm::AllGather;
  const std::vector<std::int32_t> sent = side.sent();
  std::vector<std::int32_t> received(sent.size(), -1);
  if (!gathers) exchange.counts(sent.data(), received.data());

  const ExchangePlace place = side.place();
  const bool lanes = place.lanes > 1;
  std::vector<std::int32_t> segments = {0};  // the home buffer of a coordinated exchange
  std::vector<Row> complete;
  for (const Rank peer : lanes ? place.share_group : Members{own}) {
    const auto rows = Side(plan, peer, counts).home(true);
    complete.insert(complete.end(), rows.begin(), rows.end());
    segments.push_back(static_cast<std::int32_t>(complete.size()));
  }
  const std::vector<Row> packed = side.home(false);
  std::vector<Row> home(complete.size());
  std::copy(packed.begin(), packed.end(), home.begin() + (lanes ? segments[place.lane] : 0));

  std::vector<Row> away(side.away(false).size());
  std::int64_t most = 0;
  for (const Rank peer : place.group) {
    most = std::max<std::int64_t>(most, Side(plan, peer, counts).home(false).size());
  }
  std::vector<Row> scratch(exchange.scratch_rows(most));
  RowMove move{.in = home.data(),
               .out = away.data(),
               .sent = sent.data(),
               .received = received.data(),
               .segments = lanes ? segments.data() : nullptr,
               .scratch = scratch.data(),
               .scratch_rows = static_cast<std::int64_t>(scratch.size()),
               .row_bytes = sizeof(Row)};
  if (gathers) {
    const std::int64_t part =
        gather_header_bytes(plan.moe_layers[0].experts) + most * std::int64_t{sizeof(Row)};
    std::vector<std::int64_t> messages(static_cast<std::size_t>(part / 8 * exchange.peers()));
    exchange.gather({.in = home.data(),
                     .out = away.data(),
                     .sent = sent.data(),
                     .received = received.data(),
                     .scratch = messages.data(),
                     .scratch_bytes = part * exchange.peers(),
                     .row_bytes = sizeof(Row)});
  } else {
    exchange.rows(move);
  }
  CHECK(received == side.received());
  CHECK(away == side.away(false));

  for (Row& row : away) row[4] = 1000 * own.value + row[2];
  std::vector<Row> back(complete.size());
  move.in = away.data();
  move.out = back.data();
  move.reverse = true;
  exchange.rows(move);
  if (lanes) exchange.gather_rows(back.data(), segments.data(), sizeof(Row));
  CHECK(back == complete);
  static_cast<void>(pool);
}

int check_random_plans(ExchangeAlgorithm algorithm, std::uint64_t seeds) {
  CommunicatorPool pool(test_bootstrap());
  int run = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const auto [plan, found] = random_plan(seed, test_bootstrap().world(), algorithm);
    if (!found) continue;
    ++run;
    CAPTURE(seed);
    CAPTURE(describe(plan));
    pool.prepare(plan);
    if (test_bootstrap().rank() < plan.world) {
      Exchange exchange(plan, plan.moe_layers[0], Rank(test_bootstrap().rank()), pool);
      check_exchange(plan, pool, {.seed = hash(seed, 9)}, exchange);
      check_exchange(plan, pool, {.seed = hash(seed, 8)}, exchange);  // other counts, same tables
    }
  }
  return run;
}

// Traffic of one direction with `rows` rows for every expert.
struct Measured {
  Traffic counts, rows, gather;
};
Measured measure(const Plan& plan, int rows) {
  CommunicatorPool pool(test_bootstrap());
  pool.prepare(plan);
  if (test_bootstrap().rank() >= plan.world) return {};
  Exchange exchange(plan, plan.moe_layers[0], Rank(test_bootstrap().rank()), pool);
  check_exchange(plan, pool, {.seed = 0, .uniform = rows}, exchange);
  Traffic one_way = exchange.rows_traffic();
  CHECK(one_way.messages % 2 == 0);
  return {.counts = exchange.counts_traffic(),
          .rows = {.messages = one_way.messages / 2, .bytes = one_way.bytes / 2},
          .gather = exchange.gather_traffic()};
}

Plan expert_plan(int world, int tensor, int per_node, int experts, ExchangeAlgorithm exchange) {
  Plan plan;
  plan.world = world;
  plan.tensor = tensor;
  plan.data = world / tensor;
  plan.ranks_per_node = per_node;
  plan.moe_layers = {{.layer = 1, .experts = experts, .expert = world, .exchange = exchange}};
  return plan;
}

constexpr std::int64_t kRow = sizeof(Row);

}  // namespace

TEST_CASE("the flat exchange delivers and returns what plain loops say") {
  CHECK(check_random_plans(ExchangeAlgorithm::Flat, 60) == 60);
}

TEST_CASE("the hierarchical exchange delivers and returns what plain loops say") {
  CHECK(check_random_plans(ExchangeAlgorithm::Hierarchical, 60) == 60);
}

TEST_CASE("the coordinated exchange delivers and returns what plain loops say") {
  CHECK(check_random_plans(ExchangeAlgorithm::Coordinated, 60) == 60);
}

TEST_CASE("the all-gather exchange delivers and returns what plain loops say") {
  CHECK(check_random_plans(ExchangeAlgorithm::AllGather, 60) == 60);
}

TEST_CASE("a flat exchange sends p - 1 messages") {
  for (const int p : {2, 4, 8}) {
    const Measured m = measure(expert_plan(p, 1, p, 2 * p, ExchangeAlgorithm::Flat), 3);
    if (test_bootstrap().rank() >= p) continue;
    CHECK(m.rows == Traffic{.messages = p - 1, .bytes = (p - 1) * 2 * 3 * kRow});
    CHECK(m.counts == Traffic{.messages = p - 1, .bytes = (p - 1) * 2 * 4});
    CHECK(m.gather == Traffic{});
  }
}

TEST_CASE("a hierarchical exchange sends (G - 1) + (p/G - 1) messages at twice the volume") {
  for (const auto& [p, g] : {std::pair{4, 2}, {8, 2}, {8, 4}, {16, 4}, {16, 2}}) {
    if (p > test_bootstrap().world()) continue;
    CAPTURE(p);
    CAPTURE(g);
    const Measured m = measure(expert_plan(p, 1, g, 2 * p, ExchangeAlgorithm::Hierarchical), 3);
    if (test_bootstrap().rank() >= p) continue;
    const std::int64_t to_one = 2 * 3 * kRow;  // rows for one destination
    const std::int64_t nodes = p / g;
    CHECK(m.rows.messages == (g - 1) + (nodes - 1));
    CHECK(m.rows.bytes == (g - 1) * nodes * to_one + (nodes - 1) * g * to_one);
    CHECK(m.counts.messages == (g - 1) + (nodes - 1));
  }
}

TEST_CASE("a coordinated exchange sends (p/L - 1) + (L - 1) messages") {
  for (const auto& [p, lanes] : {std::pair{4, 2}, {8, 2}, {8, 4}, {16, 4}, {16, 8}}) {
    if (p > test_bootstrap().world()) continue;
    CAPTURE(p);
    CAPTURE(lanes);
    const Measured m = measure(expert_plan(p, lanes, p, 2 * p, ExchangeAlgorithm::Coordinated), 3);
    if (test_bootstrap().rank() >= p) continue;
    const std::int64_t peers = p / lanes, to_one = 2 * 3 * kRow;
    CHECK(m.rows == Traffic{.messages = peers - 1, .bytes = (peers - 1) * to_one});
    CHECK(m.gather == Traffic{.messages = lanes - 1, .bytes = (lanes - 1) * peers * to_one});
  }
}

TEST_CASE("an all-gather dispatch sends all rows to p - 1 peers, and rows come home as if flat") {
  for (const int p : {2, 4, 8, 16}) {
    if (p > test_bootstrap().world()) continue;
    const Plan plan = expert_plan(p, 1, p, 2 * p, ExchangeAlgorithm::AllGather);
    CommunicatorPool pool(test_bootstrap());
    pool.prepare(plan);
    if (test_bootstrap().rank() >= p) continue;
    Exchange exchange(plan, plan.moe_layers[0], Rank(test_bootstrap().rank()), pool);
    check_exchange(plan, pool, {.seed = 0, .uniform = 3}, exchange);
    CHECK(exchange.counts_traffic() == Traffic{});
    const std::int64_t to_one = 2 * 3 * kRow, message = 2 * p * 4 + p * to_one;
    CHECK(exchange.rows_traffic() ==
          Traffic{.messages = 2 * (p - 1), .bytes = (p - 1) * (message + to_one)});
  }
}

TEST_CASE("sixteen ranks as four nodes of four send what each exchange promises") {
  if (test_bootstrap().world() < 16) return;
  constexpr std::int64_t kTo = 2 * 3 * kRow;  // for one destination: two experts of three rows
  struct Promise {
    ExchangeAlgorithm algorithm;
    int tensor;
    Traffic rows, counts, gather;
  };
  using enum ExchangeAlgorithm;
  const std::vector<Promise> promises = {
      {Flat, 1, {15, 15 * kTo}, {15, 15 * 8}, {}},
      // to three of the node with what is for four nodes each, to three nodes for four ranks each
      {Hierarchical, 1, {6, 3 * 4 * kTo + 3 * 4 * kTo}, {6, 24 * 8}, {}},
      // L = 4 lanes, one node a tensor group: 4 - 1 peers, then 4 - 1 lanes with 4 peers' rows
      {Coordinated, 4, {3, 3 * kTo}, {3, 3 * 8}, {3, 3 * 4 * kTo}},
  };
  for (const Promise& promise : promises) {
    CAPTURE(name_of(promise.algorithm));
    const Measured m = measure(expert_plan(16, promise.tensor, 4, 32, promise.algorithm), 3);
    CHECK(m.rows == promise.rows);
    CHECK(m.counts == promise.counts);
    CHECK(m.gather == promise.gather);
  }
}

namespace {

void check_overflow(Exchange& exchange, const Overflow& expected) {
  CHECK(exchange.overflows());
  const std::optional<Overflow> found = exchange.take_overflow();
  REQUIRE(found.has_value());
  CHECK(found->layer == expected.layer);
  CHECK(found->rank == expected.rank);
  CHECK(found->rows == expected.rows);
  CHECK(found->bound == expected.bound);
  CHECK(!exchange.take_overflow().has_value());
}

}  // namespace

TEST_CASE("rows beyond the bound are noticed at every rank, none moves, and zeros come home") {
  for (const auto algorithm : {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Hierarchical}) {
    Plan plan = expert_plan(8, 1, 4, 8, algorithm);
    plan.moe_layers[0].receive_rows = 16;
    CommunicatorPool pool(test_bootstrap());
    pool.prepare(plan);
    const int rank = test_bootstrap().rank();
    if (rank >= 8) continue;
    Exchange exchange(plan, plan.moe_layers[0], Rank(rank), pool);
    std::vector<std::int32_t> sent(8, 2), received(8, -1);
    exchange.counts(sent.data(), received.data());  // 16 rows each: just enough
    CHECK(!exchange.overflows());
    CHECK(!exchange.take_overflow().has_value());
    sent[5] = 4;
    sent[6] = 3;
    exchange.counts(sent.data(), received.data());
    CHECK(received == std::vector<std::int32_t>(8, 0));
    check_overflow(exchange, {.layer = 1, .rank = Rank(5), .rows = 32, .bound = 16});
    std::vector<Row> home(19, Row{7}), away(16, Row{9});
    RowMove move{.in = home.data(),
                 .out = away.data(),
                 .sent = sent.data(),
                 .received = received.data(),
                 .row_bytes = sizeof(Row)};
    exchange.rows(move);
    CHECK(away == std::vector<Row>(16, Row{9}));
    move.in = away.data();
    move.out = home.data();
    move.reverse = true;
    exchange.rows(move);
    CHECK(home == std::vector<Row>(19, Row{}));
    CHECK(exchange.rows_traffic() == Traffic{});
    sent[5] = sent[6] = 1;
    exchange.counts(sent.data(), received.data());  // the groups are still in step
    CHECK(!exchange.overflows());
    CHECK(std::accumulate(received.begin(), received.end(), 0) ==
          (rank == 5 || rank == 6 ? 8 : 16));
  }
}

TEST_CASE("an all-gather dispatch keeps rows within the bound, and refuses a small scratch") {
  Plan plan = expert_plan(8, 1, 8, 8, ExchangeAlgorithm::AllGather);
  plan.moe_layers[0].receive_rows = 16;
  CommunicatorPool pool(test_bootstrap());
  pool.prepare(plan);
  if (test_bootstrap().rank() >= 8) return;
  Exchange exchange(plan, plan.moe_layers[0], Rank(test_bootstrap().rank()), pool);
  std::vector<std::int32_t> sent(8, 2), received(8);
  std::vector<Row> rows(24), out(16);
  std::vector<std::int64_t> scratch(8 * (4 + 24 * 5));
  GatherMove move{.in = rows.data(),
                  .out = out.data(),
                  .sent = sent.data(),
                  .received = received.data(),
                  .scratch = scratch.data(),
                  .scratch_bytes = static_cast<std::int64_t>(scratch.size() * 8),
                  .row_bytes = sizeof(Row)};
  exchange.gather(move);  // 16 rows each: just enough
  CHECK(received == std::vector<std::int32_t>(8, 2));
  sent[5] = 4;
  exchange.gather(move);
  CHECK(received == std::vector<std::int32_t>(8, 0));
  check_overflow(exchange, {.layer = 1, .rank = Rank(5), .rows = 32, .bound = 16});
  sent[5] = 2;
  move.scratch_bytes = 8 * (32 + 15 * kRow);  // 16 rows leave every rank
  CHECK_THROWS_AS(exchange.gather(move), Error);
  move.scratch_bytes = 8 * (32 + 16 * kRow);
  exchange.gather(move);  // the group is still in step
  CHECK(received == std::vector<std::int32_t>(8, 2));
}

TEST_CASE("a hierarchical exchange refuses counts it did not announce, and a small scratch") {
  const Plan plan = expert_plan(8, 1, 4, 8, ExchangeAlgorithm::Hierarchical);
  CommunicatorPool pool(test_bootstrap());
  pool.prepare(plan);
  if (test_bootstrap().rank() >= 8) return;
  Exchange exchange(plan, plan.moe_layers[0], Rank(test_bootstrap().rank()), pool);
  std::vector<std::int32_t> sent(8, 1), received(8);
  std::vector<Row> rows(8), out(8), scratch(8);
  exchange.counts(sent.data(), received.data());
  RowMove move{.in = rows.data(),
               .out = out.data(),
               .sent = sent.data(),
               .received = received.data(),
               .scratch = scratch.data(),
               .scratch_rows = 7,
               .row_bytes = sizeof(Row)};
  CHECK_THROWS_AS(exchange.rows(move), Error);
  move.scratch_rows = 8;
  exchange.rows(move);
  sent[0] = 2;
  CHECK_THROWS_AS(exchange.rows(move), Error);
}
