#include "executor/train/fitting_plan.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <vector>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "core/program/build.h"

namespace imhotep::executor {
namespace {

using program::Program;

constexpr int kMostRanks = 64;  // that are tried

std::vector<Program> programs_of(const Plan& plan, Rank rank) {
  if (plan.workload.kind != WorkloadKind::Training) {
    return {program::build_generate(plan, rank, program::decode_shape(plan)),
            program::build_generate(plan, rank, program::prefill_shape(plan))};
  }
  std::vector<Program> programs;
  programs.push_back(program::build_train_step(plan, rank, {.first = true}));
  if (plan.accumulation > 1) {
    programs.push_back(program::build_train_step(plan, rank, {.first = false}));
  }
  programs.push_back(program::build_update(plan, rank));
  programs.push_back(program::build_evaluate(plan, rank, plan.micro_batch));
  return programs;
}

// A plan and the words of --fix and other options that ask for it.
struct Candidate {
  Plan plan;
  std::string options;
};
using Visit = std::function<bool(const Candidate&)>;  // true: enough

// Smaller micro-batches, each without and with full recomputation.
bool with_less_at_once(const Plan& plan, const std::string& more, const Visit& visit) {
  for (std::int64_t part = 1; part <= plan.micro_batch; part *= 2) {
    if (plan.micro_batch % part != 0) break;
    for (const Recompute recompute : {plan.recompute, Recompute::Full}) {
      Candidate one{.plan = plan, .options = {}};
      one.plan.micro_batch = plan.micro_batch / part;
      one.plan.accumulation = plan.accumulation * part;
      one.plan.recompute = recompute;
      if (recompute == Recompute::Full) one.plan.recompute_layers.clear();
      one.options =
          fmt::format("{} --fix micro_batch={},accumulation={}{}", more, one.plan.micro_batch,
                      one.plan.accumulation, recompute == Recompute::Full ? ",recompute=full" : "");
      if (visit(one)) return true;
    }
  }
  return false;
}

bool with_fewer_sequences(const Plan& plan, const std::string& more, const Visit& visit) {
  for (std::int64_t batch = plan.workload.global_batch; batch >= plan.data; batch /= 2) {
    Candidate one{.plan = plan, .options = fmt::format("{} --batch {}", more, batch)};
    one.plan.workload.global_batch = batch;
    if (visit(one)) return true;
  }
  return false;
}

// Ranks in one data group, experts and optimizer divided over them as far as they go.
Plan over_ranks(Plan plan, int ranks) {
  plan.micro_batch = std::max<std::int64_t>(1, plan.workload.global_batch / ranks);
  plan.accumulation = 1;
  plan.world = plan.data = ranks;
  plan.tensor = 1;
  plan.zero = plan.workload.kind == WorkloadKind::Training ? 1 : 0;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = 1;
    while (moe.experts % (2 * moe.expert) == 0 && 2 * moe.expert <= ranks) moe.expert *= 2;
    moe.slicing = 1;
    moe.replica = ranks / moe.expert;
    moe.receive_rows = 0;
  }
  return plan;
}

}  // namespace

std::int64_t bytes_of(const std::vector<Program>& programs) {
  std::array<std::int64_t, program::kBufferKinds> most{};
  for (const Program& program : programs) {
    const program::MemoryUse use = program::memory_use(program);
    for (int kind = 0; kind < program::kBufferKinds; ++kind) {
      most[kind] = std::max(most[kind], use.by_kind[kind]);
    }
  }
  return std::accumulate(most.begin(), most.end(), std::int64_t{0});
}

std::int64_t plan_bytes(const Plan& plan, Rank rank) { return bytes_of(programs_of(plan, rank)); }

std::string advise_plan(const Plan& plan, Rank rank, std::int64_t bytes) {
  std::string advice;
  const Visit fits = [&](const Candidate& one) {
    if (!check_degrees(one.plan).feasible) return false;
    const std::int64_t needed = plan_bytes(one.plan, rank.value < one.plan.world ? rank : Rank(0));
    if (needed > bytes) return false;
    advice = fmt::format("{} a rank would do for: imhotep plan {}{}",
                         format_bytes(static_cast<double>(needed)), plan.model.name, one.options);
    return true;
  };
  const bool training = plan.workload.kind == WorkloadKind::Training;
  const auto search = [&](const Plan& from, const std::string& more) {
    return training ? with_less_at_once(from, more, fits) : with_fewer_sequences(from, more, fits);
  };
  if (plan_bytes(plan, rank) <= bytes) return "try fewer sequences or tokens at once";
  if (search(plan, "")) return advice;
  const std::int64_t most = std::min<std::int64_t>(kMostRanks, plan.workload.global_batch);
  for (int ranks = 2 * plan.world; ranks <= most; ranks *= 2) {
    if (search(over_ranks(plan, ranks), fmt::format(" --gpus {}", ranks))) return advice;
  }
  return fmt::format("no plan of up to {} ranks for this batch that was tried fits {} a rank", most,
                     format_bytes(static_cast<double>(bytes)));
}

}  // namespace imhotep::executor
