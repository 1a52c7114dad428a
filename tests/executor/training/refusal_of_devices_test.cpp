// Why a plan cannot run on this machine's GPUs, and which one would fit: tables of CUDA functions
// and amounts of memory are made up here.

#include <doctest/doctest.h>

#include "core/base/fail.h"
#include "core/program/build.h"
#include "executor/runtime/device_check.h"
#include "executor/train/fitting_plan.h"
#include "executor/train/trainer.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/training/tiny_models.h"

namespace imhotep::executor {
namespace {

template <int kDevices, int kDriver, int kRuntime>
kernels::CudaApi table() {
  return {.device_count = [] { return kDevices; },
          .versions = [] { return kernels::CudaVersions{.driver = kDriver, .runtime = kRuntime}; }};
}

Plan roomy_plan() {
  ModelSpec model{.name = "wide", .layers = 4, .hidden = 64, .heads = 2, .vocab = 256};
  model.context = 64;
  model.experts = ExpertList::parse("4");
  Workload workload{.global_batch = 16, .sequence = 64};
  Plan plan = single_rank_plan(model, workload);
  plan.micro_batch = 16;
  return plan;
}

// The plan that a piece of advice names, as far as this test's plans go.
Plan advised(Plan plan, const std::string& advice) {
  const auto number = [&](const std::string& key) {
    const auto at = advice.find(key);
    return at == std::string::npos ? 0 : std::stoll(advice.substr(at + key.size()));
  };
  REQUIRE(number("micro_batch=") > 0);
  plan.micro_batch = number("micro_batch=");
  plan.accumulation = number("accumulation=");
  if (holds(advice, "recompute=full")) plan.recompute = Recompute::Full;
  return plan;
}

}  // namespace

TEST_CASE("a missing driver, an old one and one without a GPU are told apart, with versions") {
  CHECK(why_no_device(table<1, 13000, 13000>()).empty());
  const std::string none = why_no_device(table<0, 0, 13000>());
  CHECK(holds(none, "no driver is loaded"));
  CHECK(holds(none, "CUDA 13.0"));
  const std::string old = why_no_device(table<0, 12040, 13010>());
  CHECK(holds(old, "the driver speaks CUDA 12.4"));
  CHECK(holds(old, "needs CUDA 13.1"));
  CHECK(holds(why_no_device(table<0, 13000, 13010>()), "sees no device"));
}

TEST_CASE("the plan that is advised fits where the one asked for does not") {
  const Plan plan = roomy_plan();
  const std::int64_t whole = plan_bytes(plan, Rank(0));
  std::int64_t last = whole;
  for (const double share : {0.9, 0.5, 0.3}) {
    const auto room = static_cast<std::int64_t>(share * static_cast<double>(whole));
    const std::string advice = advise_plan(plan, Rank(0), room);
    CAPTURE(advice);
    REQUIRE(holds(advice, "imhotep plan wide --fix "));
    const Plan other = advised(plan, advice);
    CHECK(check_degrees(other).feasible);
    const std::int64_t needed = plan_bytes(other, Rank(0));
    CHECK(needed <= room);
    CHECK(needed < last);
    last = needed;
  }
}

TEST_CASE("weights that no single rank can hold are advised onto more ranks, or refused") {
  const Plan plan = roomy_plan();
  Plan least = plan;
  least.micro_batch = 1;
  least.accumulation = 16;
  least.recompute = Recompute::Full;
  const std::int64_t room = plan_bytes(least, Rank(0)) * 3 / 4;
  const std::string advice = advise_plan(plan, Rank(0), room);
  CAPTURE(advice);
  CHECK(holds(advice, " --gpus "));
  CHECK(holds(advise_plan(plan, Rank(0), 1000), "no plan of up to 16 ranks"));
}

TEST_CASE("generation that does not fit is advised to take fewer sequences at once") {
  Plan plan = roomy_plan();
  plan.workload.kind = WorkloadKind::Generation;
  plan.workload.prompt = plan.workload.output = 32;
  plan.workload.global_batch = 64;
  const std::int64_t whole = plan_bytes(plan, Rank(0));
  const std::string advice = advise_plan(plan, Rank(0), whole * 3 / 4);
  CAPTURE(advice);
  const auto at = advice.find("--batch ");
  REQUIRE(at != std::string::npos);
  plan.workload.global_batch = std::stoll(advice.substr(at + 8));
  CHECK(plan_bytes(plan, Rank(0)) <= whole * 3 / 4);
}

TEST_CASE("memory that does not suffice is refused with the bytes that are missing") {
  const Plan plan = roomy_plan();
  std::vector<program::Program> programs;
  programs.push_back(program::build_train_step(plan, Rank(0), {.first = true}));
  CHECK_NOTHROW(check_memory(plan, programs, Rank(0), 1));
  const std::string text = complaint([&] { check_memory(plan, programs, Rank(0), 100'000'000); });
  CAPTURE(text);
  CHECK(holds(text, "bytes too few"));
  CHECK(holds(text, fmt::format("({} bytes)", bytes_of(programs))));
}

}  // namespace imhotep::executor
