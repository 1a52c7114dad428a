// A lowered generation step computes what the plain one does, in fewer operations.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/program/build.h"
#include "core/program/lower_decode.h"
#include "tests/executor/generate/setup.h"
#include "tests/executor/generate/token_steps.h"

namespace imhotep::executor {
namespace {

constexpr const char* kModels[] = {"nano-pr-moe-2-8", "nano-top2-moe-4", "nano-moe-8",
                                   "nano-dense"};
constexpr std::int64_t kSequences = 5;

program::Program plain_step(const Plan& plan) {
  return program::build_generate(plan, Rank(0), program::decode_shape(plan));
}

void check_close(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(a[i] - b[i]) <= tolerance * std::max(1.0, std::abs(a[i])));
  }
}

void check_lowered(const Plan& plan, const program::Program& program) {
  const Bootstrap alone;
  CommunicatorPool pool(alone);
  test::TokenSteps plain(plan, Rank(0), plain_step(plan), pool, kSequences);
  test::TokenSteps lowered(plan, Rank(0), program, pool, kSequences);
  std::int64_t stats = 0;
  for (int l = 0; l < plan.model.layers; ++l) stats += 2 * plan.model.experts_at(l);
  std::vector<std::int32_t> tokens = test::prompt_of(3, kSequences, plan.model.vocab);
  const double tolerance = plan.dtype == Dtype::F64 ? 1e-12 : 2e-5;
  for (std::int32_t step = 0; step < 8; ++step) {
    plain.run(step, tokens);
    lowered.run(step, tokens);
    CHECK(plain.tokens() == lowered.tokens());
    check_close(plain.wides("next_logprob", kSequences - 1),
                lowered.wides("next_logprob", kSequences - 1), tolerance);
    check_close(plain.wides("balance_stats", stats), lowered.wides("balance_stats", stats),
                tolerance);
    tokens = plain.tokens();
  }
}

TEST_CASE("a lowered step gives the tokens, probabilities and statistics of the plain one") {
  for (const char* model : kModels) {
    for (const Dtype dtype : {Dtype::F64, Dtype::F32}) {
      CAPTURE(model);
      CAPTURE(dtype == Dtype::F64);
      Plan plan = test::speaking_plan(model, kSequences);
      plan.dtype = dtype;
      check_lowered(plan, program::lower_decode(plain_step(plan)));
    }
  }
}

TEST_CASE("a block of a lowered step is five operations if dense and six with experts") {
  for (const char* model : kModels) {
    CAPTURE(model);
    const Plan plan = test::speaking_plan(model, kSequences);
    const program::Program lowered = program::lower_decode(plain_step(plan));
    const auto count = [&](int layer) {
      return std::count_if(lowered.operations.begin(), lowered.operations.end(),
                           [&](const program::Operation& op) { return op.layer == layer; });
    };
    for (int l = 0; l < plan.model.layers; ++l) {
      CHECK(count(l) == (plan.model.experts_at(l) > 0 ? 6 : 5));
    }
    CHECK(count(-1) == 4);  // embedding, last rows, head, sample
  }
}

TEST_CASE("steps of many rows and other exchanges than flat stay as they are") {
  Plan plan = test::speaking_plan("nano-pr-moe-2-8", 200);
  CHECK(program::lower_decode(plain_step(plan)).operations.size() ==
        plain_step(plan).operations.size());
  plan = test::speaking_plan("nano-pr-moe-2-8", kSequences);
  plan.world = plan.tensor = 2;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = 2;
    moe.exchange = ExchangeAlgorithm::Coordinated;
  }
  const program::Program plain = plain_step(plan), lowered = program::lower_decode(plain);
  for (const program::Operation& op : lowered.operations) {
    CHECK(!std::holds_alternative<FewExpertsUp>(op.shape));
  }
  CHECK(lowered.operations.size() < plain.operations.size());  // norms of products are fused
}

TEST_CASE("a bf16 plan for a GPU is lowered when it is built") {
  Plan plan = test::speaking_plan("nano-pr-moe-2-8", kSequences);
  plan.dtype = Dtype::Bf16;
  const auto families = [&] {
    std::set<std::string_view> names;
    for (const program::Operation& op : plain_step(plan).operations) {
      names.insert(program::family_name(op.shape));
    }
    return names;
  };
  CHECK(families().count("few_experts_down") == 0);
  plan.device = DeviceKind::Cuda;
  CHECK(families().count("few_experts_down") == 1);
  CHECK(families().count("grouped_gemm") == 0);
}

}  // namespace
}  // namespace imhotep::executor
