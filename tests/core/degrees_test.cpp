// What check_degrees says. Every reason names the place, the value and what would do.

#include <doctest/doctest.h>

#include <limits>

#include "core/spec/plan.h"
#include "tests/core/failure.h"

namespace imhotep {
namespace {

using test::contains;

// 8 ranks, tensor 2 x data 4, a pyramid of 2, 4 and 8 experts.
Plan eight_ranks() {
  ModelSpec model;
  model.name = "pyramid";
  model.layers = 6;
  model.hidden = 32;
  model.heads = 4;
  model.vocab = 256;
  model.context = 64;
  model.experts.slots = {2, 4, 8};
  Workload workload;
  workload.sequence = 64;
  workload.global_batch = 8;
  Plan plan = single_rank_plan(model, workload);
  plan.world = 8;
  plan.tensor = 2;
  plan.data = 4;
  plan.ranks_per_node = 8;
  plan.micro_batch = 2;
  const int degrees[3][3] = {{2, 2, 2}, {4, 1, 2}, {8, 1, 1}};
  for (int i = 0; i < 3; ++i) {
    plan.moe_layers[i].expert = degrees[i][0];
    plan.moe_layers[i].slicing = degrees[i][1];
    plan.moe_layers[i].replica = degrees[i][2];
  }
  return plan;
}

// All reasons, one a line, after a change to a legal plan.
template <class Change>
std::string reasons(Change change) {
  Plan plan = eight_ranks();
  change(plan);
  const Verdict verdict = check_degrees(plan);
  CHECK(verdict.feasible == verdict.reasons.empty());
  std::string text;
  for (const std::string& reason : verdict.reasons) text += reason + "\n";
  return text;
}

TEST_CASE("legal degrees have no reasons against them") {
  CHECK(reasons([](Plan&) {}).empty());
  CHECK(check_degrees(single_rank_plan(eight_ranks().model, eight_ranks().workload)).feasible);
}

TEST_CASE("an expert degree that does not divide the experts is answered with those that do") {
  CHECK(contains(reasons([](Plan& p) { p.moe_layers[2].expert = 3; }),
                 "layer 5: expert 3 does not divide 8 experts; possible: 1, 2, 4, 8\n"));
  // Possible degrees also fit the world.
  CHECK(contains(reasons([](Plan& p) {
                   p.world = 6;
                   p.tensor = 1;
                   p.data = 6;
                   p.moe_layers[2].expert = 3;
                 }),
                 "layer 5: expert 3 does not divide 8 experts; possible: 1, 2\n"));
}

TEST_CASE("a slicing degree that does not divide the feed-forward is answered") {
  CHECK(contains(reasons([](Plan& p) { p.moe_layers[0].slicing = 3; }),
                 "layer 1: slicing 3 does not divide 128 feed-forward columns; "
                 "possible: 1, 2, 4, 8\n"));
}

TEST_CASE("degrees of a layer multiply to the world") {
  CHECK(contains(reasons([](Plan& p) { p.moe_layers[1].replica = 1; }),
                 "layer 3: expert 4 x slicing 1 x replica 1 = 4, but the world has 8 ranks; "
                 "replica must be 2\n"));
  CHECK(contains(reasons([](Plan& p) { p.moe_layers[1].slicing = 16; }),
                 "for slicing possible: 1, 2\n"));
  CHECK(
      contains(reasons([](Plan& p) { p.moe_layers[1].expert = 1 << 30; }), "possible: 1, 2, 4\n"));
}

TEST_CASE("tensor and data multiply to the world, and tensor divides heads") {
  CHECK(contains(reasons([](Plan& p) { p.data = 3; }),
                 "tensor 2 x data 3 = 6, but the world has 8 ranks; data must be 4\n"));
  CHECK(contains(reasons([](Plan& p) { p.tensor = 8; }),
                 "tensor 8 does not divide 4 heads; possible: 1, 2, 4\n"));
  CHECK(contains(reasons([](Plan& p) { p.tensor = 3; }), "possible: 1, 2, 4\n"));
}

TEST_CASE("many possible values are cut to the nearest ones") {
  ModelSpec model = eight_ranks().model;
  model.hidden = 1024;
  model.experts.slots = {512};
  Plan plan = single_rank_plan(model, eight_ranks().workload);
  plan.world = plan.data = 512;
  plan.workload.global_batch = 512;
  plan.micro_batch = 1;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = 48;
    moe.replica = 512 / 48;
  }
  CHECK(contains(check_degrees(plan).reasons.front(),
                 "layer 1: expert 48 does not divide 512 experts; nearest possible: 16, 32, 64"));
}

TEST_CASE("every MoE layer of the model appears once, in order, with its experts") {
  const std::string wanted = "but the MoE layers of \"pyramid\" are [1, 3, 5]\n";
  CHECK(contains(reasons([](Plan& p) { p.moe_layers.pop_back(); }), "blocks [1, 3], " + wanted));
  CHECK(contains(reasons([](Plan& p) { p.moe_layers[1].layer = 2; }), "[1, 2, 5], " + wanted));
  CHECK(contains(reasons([](Plan& p) { std::swap(p.moe_layers[0], p.moe_layers[1]); }),
                 "[3, 1, 5], " + wanted));
  CHECK(contains(reasons([](Plan& p) { p.moe_layers.push_back(p.moe_layers[2]); }),
                 "[1, 3, 5, 5], " + wanted));
  CHECK(contains(reasons([](Plan& p) { p.moe_layers[1].experts = 16; }),
                 "layer 3: the plan says 16 experts, the model 4\n"));
}

TEST_CASE("an exchange that cannot serve a layer is refused") {
  CHECK(
      reasons([](Plan& p) { p.moe_layers[2].exchange = ExchangeAlgorithm::Coordinated; }).empty());
  CHECK(
      contains(reasons([](Plan& p) { p.moe_layers[2].exchange = ExchangeAlgorithm::Hierarchical; }),
               "layer 5: the hierarchical exchange needs"));
}

TEST_CASE("the batch is divided without a rest") {
  CHECK(contains(reasons([](Plan& p) { p.workload.global_batch = 6; }),
                 "micro_batch 2 x accumulation 1 x data 4 is not the global batch of 6 sequences; "
                 "for data possible: 1, 2\n"));
  CHECK(contains(reasons([](Plan& p) { p.micro_batch = 3; }), "for micro_batch possible: 1, 2\n"));
  CHECK(contains(reasons([](Plan& p) { p.micro_batch = 1; }), "accumulation must be 2\n"));
  CHECK(contains(reasons([](Plan& p) { p.accumulation = std::int64_t{1} << 62; }),
                 "accumulation must be 1\n"));
}

TEST_CASE("the context bounds sequences, prompts and what follows them") {
  CHECK(contains(reasons([](Plan& p) { p.workload.sequence = 65; }),
                 "sequence 65 exceeds the context of 64 tokens\n"));
  const auto generation = [](std::int64_t prompt, std::int64_t output) {
    return reasons([&](Plan& p) {
      p.workload.kind = WorkloadKind::Generation;
      p.workload.prompt = prompt;
      p.workload.output = output;
    });
  };
  CHECK(generation(32, 32).empty());
  CHECK(contains(generation(40, 30), "prompt 40 + output 30 exceeds the context of 64 tokens\n"));
  CHECK(contains(generation(1, std::numeric_limits<std::int64_t>::max()), "exceeds the context"));
}

TEST_CASE("a measured routing brings one share an expert for every MoE layer") {
  const auto measured = [](std::vector<std::vector<double>> histograms) {
    return reasons([&](Plan& p) {
      p.workload.routing.kind = RoutingKind::Measured;
      p.workload.routing.histograms = std::move(histograms);
    });
  };
  const std::vector<double> two = {0.5, 0.5}, four(4, 0.25), eight(8, 0.125);
  CHECK(measured({two, four, eight}).empty());
  CHECK(contains(measured({two, four}), "2 histograms for 3 MoE layers"));
  CHECK(contains(measured({two, two, eight}), "layer 3: measured routing needs 4 shares"));
  CHECK(contains(measured({{1.5, -0.5}, four, eight}), "layer 1"));
  CHECK(contains(measured({two, four, std::vector<double>(8, 1.0)}), "sum to 8"));
}

TEST_CASE("what the processor cannot run can still be priced") {
  CHECK(contains(reasons([](Plan& p) { p.dtype = Dtype::Bf16; }),
                 "bf16 on cpu can be priced but not run"));
  CHECK(reasons([](Plan& p) {
          p.dtype = Dtype::Bf16;
          p.executable = false;
        }).empty());
  CHECK(reasons([](Plan& p) { p.dtype = Dtype::F64; }).empty());
  CHECK(reasons([](Plan& p) {
          p.dtype = Dtype::Bf16;
          p.device = DeviceKind::Cuda;
        }).empty());
  CHECK(contains(reasons([](Plan& p) { p.dtype = Dtype::I32; }), "weights cannot be int32"));
  CHECK(contains(reasons([](Plan& p) { p.zero = 3; }), "ZeRO stage 3 is unknown; possible: 0, 1"));
}

TEST_CASE("blocks to compute again are listed in order, and only where some are") {
  const auto some = [](std::vector<int> layers) {
    return reasons([&](Plan& p) {
      p.recompute = Recompute::Some;
      p.recompute_layers = layers;
    });
  };
  CHECK(some({0, 2}).empty());
  CHECK(contains(some({}), "expected ascending blocks from 0"));
  CHECK(contains(some({2, 2}), "got [2, 2]"));
  CHECK(contains(some({-1}), "got [-1]"));
  CHECK(contains(some({1000}), "got [1000]"));
  CHECK(contains(reasons([](Plan& p) { p.recompute_layers = {1}; }), "not \"some\""));
}

TEST_CASE("degrees below one are refused before anything is divided by them") {
  CHECK(reasons([](Plan& p) { p.tensor = 0; }) == "tensor is 0; it must be at least 1\n");
  CHECK(reasons([](Plan& p) { p.moe_layers[1].slicing = -2; }) ==
        "layer 3: slicing is -2; it must be at least 1\n");
}

TEST_CASE("several faults are told together") {
  const std::string text = reasons([](Plan& p) {
    p.workload.sequence = 100;
    p.moe_layers[2].expert = 3;
    p.zero = 2;
  });
  CHECK(contains(text, "sequence 100"));
  CHECK(contains(text, "expert 3"));
  CHECK(contains(text, "ZeRO stage 2"));
}

}  // namespace
}  // namespace imhotep
