// Tokens and experts: the layout oracle of the paper's authors, and random routes whose every row
// must be computed by its expert and come home to every rank that holds the token.

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "core/base/random.h"
#include "executor/comm/exchange.h"
#include "tests/executor/comm/plans.h"
#include "tests/executor/mpi_main.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

struct Row {
  std::int32_t token = -1, choice = -1, copy = -1;
  std::int32_t expert = -1, slice = -1;  // filled in by whoever computes it
};

struct Routes {
  std::int64_t tokens = 0, k = 1;
  std::vector<int> expert;  // [tokens, k]
};

// Rows in the full order of kernels/dispatch.h, and what a rank needs to exchange them.
struct Packed {
  std::vector<Row> rows;
  std::vector<std::int32_t> segments = {0};
  std::vector<std::int32_t> counts;  // [peers, local experts] of the own lane
};

Packed pack(const MoeLayerPlan& moe, const ExchangePlace& place, const Routes& routes) {
  Packed packed;
  const int local = moe.experts / moe.expert;
  const TokenRange own = token_share(routes.tokens, place.shares, place.share);
  for (int lane = 0; lane < place.lanes; ++lane) {
    for (int r = lane; r < moe.expert; r += place.lanes) {
      for (int copy = 0; copy < place.copies; ++copy) {
        for (int e = r * local; e < (r + 1) * local; ++e) {
          const std::size_t before = packed.rows.size();
          for (std::int64_t t = own.begin; t < own.end; ++t) {
            for (std::int64_t c = 0; c < routes.k; ++c) {
              if (routes.expert[t * routes.k + c] != e) continue;
              packed.rows.push_back({.token = static_cast<std::int32_t>(t),
                                     .choice = static_cast<std::int32_t>(c),
                                     .copy = copy});
            }
          }
          if (lane == place.lane) {
            packed.counts.push_back(static_cast<std::int32_t>(packed.rows.size() - before));
          }
        }
      }
    }
    packed.segments.push_back(static_cast<std::int32_t>(packed.rows.size()));
  }
  return packed;
}

struct Round {
  std::vector<Row> arrived, home;
};

// There, computed, and back.
Round exchange_rows(const Plan& plan, CommunicatorPool& pool, const Packed& packed) {
  const Rank own(test_bootstrap().rank());
  const MoeLayerPlan& moe = plan.moe_layers[0];
  Exchange exchange(plan, moe, own, pool);
  const std::int64_t local = exchange.local_experts();
  std::vector<std::int32_t> received(packed.counts.size());
  exchange.counts(packed.counts.data(), received.data());
  std::int64_t total = 0;
  for (const std::int32_t n : received) total += n;
  Round round;
  round.arrived.resize(total);
  std::vector<Row> scratch(exchange.scratch_rows(1000));
  RowMove move{.in = packed.rows.data(),
               .out = round.arrived.data(),
               .sent = packed.counts.data(),
               .received = received.data(),
               .segments = packed.segments.data(),
               .scratch = scratch.data(),
               .scratch_rows = static_cast<std::int64_t>(scratch.size()),
               .row_bytes = sizeof(Row)};
  exchange.rows(move);
  const ExpertPlace place = expert_place(plan, moe, own);
  std::vector<Row> computed = round.arrived;
  std::size_t at = 0;
  for (std::size_t block = 0; block < received.size(); ++block) {
    for (std::int32_t i = 0; i < received[block]; ++i, ++at) {
      computed[at].expert = static_cast<std::int32_t>(place.expert * local + block % local);
      computed[at].slice = place.slice;
    }
  }
  round.home.resize(packed.rows.size());
  move.in = computed.data();
  move.out = round.home.data();
  move.reverse = true;
  exchange.rows(move);
  if (exchange.place().lanes > 1) {
    exchange.gather_rows(round.home.data(), packed.segments.data(), sizeof(Row));
  }
  return round;
}

// Every row of the full order came home from its expert, from the right slice.
void check_home(const Plan& plan, const Packed& packed, const Round& round, const Routes& routes) {
  const MoeLayerPlan& moe = plan.moe_layers[0];
  const Rank own(test_bootstrap().rank());
  const ExchangePlace place = exchange_place(plan, moe, own);
  int wrong = 0;
  for (std::size_t i = 0; i < packed.rows.size(); ++i) {
    const Row &left = packed.rows[i], &back = round.home[i];
    const int slice = place.copies > 1 ? left.copy : expert_place(plan, moe, own).slice;
    const bool right = back.token == left.token && back.choice == left.choice &&
                       back.copy == left.copy && back.slice == slice &&
                       back.expert == routes.expert[left.token * routes.k + left.choice];
    wrong += right ? 0 : 1;
  }
  CHECK(wrong == 0);
}

std::string letters(const std::vector<Row>& rows, std::size_t begin, std::size_t end) {
  std::string text;
  for (std::size_t i = begin; i < end; ++i) text += static_cast<char>(rows[i].token);
  return text;
}

// Four ranks, one expert each; token i of a rank goes to expert i. Tokens are named by letters.
struct Oracle {
  std::string split, arrived, home;
};
Oracle run_oracle(int tensor, ExchangeAlgorithm algorithm) {
  Plan plan;
  plan.world = 4;
  plan.tensor = tensor;
  plan.data = 4 / tensor;
  plan.ranks_per_node = 2;
  plan.moe_layers = {{.layer = 1, .experts = 4, .expert = 4, .exchange = algorithm}};
  CommunicatorPool pool(test_bootstrap());
  pool.prepare(plan);
  const int rank = test_bootstrap().rank();
  if (rank >= 4) return {};
  const ExchangePlace place = exchange_place(plan, plan.moe_layers[0], Rank(rank));
  const Routes routes{.tokens = 4, .k = 1, .expert = {0, 1, 2, 3}};
  Packed packed = pack(plan.moe_layers[0], place, routes);
  for (Row& row : packed.rows) row.token += 'A' + 4 * (rank / tensor);
  const Round round = exchange_rows(plan, pool, packed);
  return {
      .split = letters(packed.rows, packed.segments[place.lane], packed.segments[place.lane + 1]),
      .arrived = letters(round.arrived, 0, round.arrived.size()),
      .home = letters(round.home, 0, round.home.size())};
}

}  // namespace

// Source: "DeepSpeed Inference" slides for SC22, page 16; arXiv 2201.05596, section 5.3.
TEST_CASE("the coordinated exchange lays tokens out as the paper's authors draw it") {
  const Oracle oracle = run_oracle(2, ExchangeAlgorithm::Coordinated);
  const int rank = test_bootstrap().rank();
  if (rank >= 4) return;
  CHECK(oracle.split == std::array{"AC", "BD", "EG", "FH"}[rank]);
  CHECK(oracle.arrived == std::array{"AE", "BF", "CG", "DH"}[rank]);
  CHECK(oracle.home == std::array{"ACBD", "ACBD", "EGFH", "EGFH"}[rank]);
}

TEST_CASE("without tensor slicing the all-to-all transposes, flat or in two steps") {
  for (const auto algorithm : {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Hierarchical}) {
    const Oracle oracle = run_oracle(1, algorithm);
    const int rank = test_bootstrap().rank();
    if (rank >= 4) continue;
    CHECK(oracle.arrived == std::array{"AEIM", "BFJN", "CGKO", "DHLP"}[rank]);
    CHECK(oracle.home == std::array{"ABCD", "EFGH", "IJKL", "MNOP"}[rank]);
  }
}

TEST_CASE("random routes are computed by their experts and come home") {
  CommunicatorPool pool(test_bootstrap());
  const Rank own(test_bootstrap().rank());
  std::array<int, 3> run = {};
  int copied = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    const auto algorithm = static_cast<ExchangeAlgorithm>(seed % 3);
    const auto [plan, found] = random_plan(1000 + seed, test_bootstrap().world(), algorithm);
    if (!found) continue;
    CAPTURE(seed);
    CAPTURE(describe(plan));
    ++run[seed % 3];
    pool.prepare(plan);
    if (own.value >= plan.world) continue;
    const MoeLayerPlan& moe = plan.moe_layers[0];
    const ExchangePlace place = exchange_place(plan, moe, own);
    copied += place.copies > 1 ? 1 : 0;
    Routes routes;
    routes.k = 1 + static_cast<std::int64_t>(hash(seed, 3) % 2);
    routes.tokens = static_cast<std::int64_t>(hash(seed, 4, rank_place(plan, own).data) % 12);
    for (std::int64_t i = 0; i < routes.tokens * routes.k; ++i) {
      const std::uint64_t h = hash(seed, 5, rank_place(plan, own).data, i);
      routes.expert.push_back(h % 6 == 0 ? -1 : static_cast<int>(h / 6 % moe.experts));
    }
    const Packed packed = pack(moe, place, routes);
    check_home(plan, packed, exchange_rows(plan, pool, packed), routes);
  }
  CHECK(run == std::array{50, 50, 50});
  if (own.value == 0) CHECK(copied > 5);
}
