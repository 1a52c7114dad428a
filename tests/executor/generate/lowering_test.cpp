// A lowered generation step computes what the plain one does, in fewer operations.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/program/build.h"
#include "core/program/lower_decode.h"
#include "tests/executor/generate/setup.h"

namespace imhotep::executor {
namespace {

constexpr const char* kModels[] = {"nano-pr-moe-2-8", "nano-top2-moe-4", "nano-moe-8",
                                   "nano-dense"};
constexpr std::int64_t kSequences = 5;

program::Program plain_step(const Plan& plan) {
  return program::build_generate(plan, Rank(0), program::decode_shape(plan));
}

// One program for one token a step of every sequence but the last, which takes no part.
class Steps {
 public:
  Steps(const Plan& plan, program::Program program)
      : plan_(plan), pool_(ranks_), runner_(plan, Rank(0), {std::move(program)}, pool_) {
    test::fill_weights(plan, runner_);
    const std::int64_t pages =
        (program::decode_shape(plan).max_context + plan.page_size - 1) / plan.page_size;
    for (std::int64_t i = 0; i < kSequences * pages; ++i) {
      runner_.input<std::int32_t>("block_table")[i] = static_cast<std::int32_t>(i);
    }
  }

  void run(std::int32_t step, const std::vector<std::int32_t>& tokens) {
    for (std::int32_t s = 0; s < kSequences; ++s) {
      const bool used = s + 1 < kSequences;
      runner_.input<std::int32_t>("tokens")[s] = used ? tokens[s] : -1;
      runner_.input<std::int32_t>("positions")[s] = used ? step : -1;
      runner_.input<std::int32_t>("used")[s] = used ? 1 : 0;
      runner_.input<std::int32_t>("sequences")[s] = used ? s : 0;
      runner_.input<std::int32_t>("sample_rows")[s] = s;
    }
    runner_.input<std::int32_t>("sample_range")[0] = 0;
    runner_.input<std::int32_t>("sample_range")[1] = kSequences - 1;
    StepContext context;
    context.sampling.resize(kSequences);
    runner_.run(0, context);
  }

  [[nodiscard]] std::vector<std::int32_t> tokens() const {
    const auto* next = runner_.input<std::int32_t>("next_token");
    return {next, next + kSequences - 1};
  }
  [[nodiscard]] std::vector<double> wides(const char* name, std::int64_t count) const {
    const auto* data = runner_.input<std::byte>(name);
    std::vector<double> values;
    for (std::int64_t i = 0; i < count; ++i) {
      values.push_back(plan_.dtype == Dtype::F64
                           ? reinterpret_cast<const double*>(data)[i]
                           : static_cast<double>(reinterpret_cast<const float*>(data)[i]));
    }
    return values;
  }

 private:
  Plan plan_;
  Bootstrap ranks_;
  CommunicatorPool pool_;
  Runner runner_;
};

void check_close(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(a[i] - b[i]) <= tolerance * std::max(1.0, std::abs(a[i])));
  }
}

void check_lowered(const Plan& plan, const program::Program& program) {
  Steps plain(plan, plain_step(plan)), lowered(plan, program);
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
