// Many mixed requests at once on plans of several ranks: greedy text equals that of each request
// alone on one rank. Run in double, where rounding decides nothing.

#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/serve/serving.h"

namespace imhotep::executor {
namespace {

// Degrees and exchanges of a training plan, for generation.
Plan serving_plan(const Plan& from, const Plan& single) {
  Plan plan = single;
  plan.world = from.world;
  plan.tensor = from.tensor;
  plan.data = from.data;
  plan.ranks_per_node = from.ranks_per_node;
  plan.rank_order = from.rank_order;
  plan.moe_layers = from.moe_layers;
  return plan;
}

// The whole cover takes two minutes: IMHOTEP_WHOLE_COVER=1 asks for it.
std::size_t most_plans() { return std::getenv("IMHOTEP_WHOLE_COVER") != nullptr ? SIZE_MAX : 20; }

}  // namespace

TEST_CASE("mixed requests on any plan are each as on one rank alone") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  for (const char* model : {"nano-pr-moe-2-8", "nano-top2-moe-4"}) {
    const Plan single = test::speaking_plan(model, 6);
    const test::NumberWords words(single.model.vocab);
    const auto requests = test::mixed_requests(200, single.model.vocab, 32, 21);
    test::Served reference;
    if (ranks.rank() == 0) {  // one request at a time
      const ServeShape shape = serve_shape(single, {.sequences = 1, .chunk = 16, .kv_tokens = 32});
      reference = test::serve_all(single, shape, requests, ranks, pool, words);
      CHECK(reference.preemptions == 0);
    }
    const test::PlanSpace space{
        .model = single.model, .world = ranks.world(), .ranks_per_node = ranks.world() / 2};
    int index = 0;
    for (const Plan& from : test::pairwise_cover(space, 3, most_plans()).plans) {
      const Plan plan = serving_plan(from, single);
      CAPTURE(test::plan_label(plan));
      // Every second plan has so few pages that sequences lose theirs.
      const std::int64_t tokens = index++ % 2 == 0 ? 6 * 32 : 44;
      const ServeShape shape = serve_shape(plan, {.sequences = 6, .chunk = 9, .kv_tokens = tokens});
      const test::Served served = test::serve_all(plan, shape, requests, ranks, pool, words);
      if (ranks.rank() != 0) continue;
      if (tokens == 44) CHECK(served.preemptions > 0);
      CHECK(served.dropped_tokens == 0);
      REQUIRE(served.answers.size() == requests.size());
      for (const auto& [id, answer] : served.answers) {
        CAPTURE(id);
        CHECK(answer.tokens == reference.answers.at(id).tokens);
        CHECK(answer.text == reference.answers.at(id).text);
      }
    }
  }
}

}  // namespace imhotep::executor
