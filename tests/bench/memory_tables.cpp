// The table of docs/validation/memory.md: bytes that steps took from H200s, as
// docs/benchmarks/gpu-h200-plans.json keeps them, beside what core/program/device_memory.h says of
// the same steps. Not a test: ninja memory_tables && tests/planner/memory_tables FILE CLUSTER, in
// the source folder

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/program/build.h"
#include "core/program/device_memory.h"
#include "planner/space/receive_rows.h"

namespace imhotep {
namespace {

struct Row {
  std::string run, report, step;
  std::int64_t buffers = 0, measured = 0;
};

std::int64_t number(const std::smatch& match, int index) { return std::stoll(match[index].str()); }

// The degrees that a step's text names, on a plan made as `imhotep bench` makes it.
void read_degrees(const Row& row, Plan& plan) {
  std::smatch found;
  const auto has = [&](const char* text) {
    return std::regex_search(row.step, found, std::regex(text));
  };
  if (!has("tensor (\\d+) data (\\d+)")) fail("{}: no degrees", row.step);
  plan.tensor = static_cast<int>(number(found, 1));
  plan.data = static_cast<int>(number(found, 2));
  plan.world = plan.tensor * plan.data;
  plan.ranks_per_node = plan.world;
  if (has("expert (\\d+) slicing (\\d+)")) {
    for (MoeLayerPlan& moe : plan.moe_layers) {
      moe.expert = static_cast<int>(number(found, 1));
      moe.slicing = static_cast<int>(number(found, 2));
      moe.replica = plan.world / moe.expert / moe.slicing;
    }
  }
  if (has("ZeRO (\\d), micro-batch (\\d+) x (\\d+), recompute (\\w+)")) {
    plan.zero = static_cast<int>(number(found, 1));
    plan.micro_batch = number(found, 2);
    plan.accumulation = number(found, 3);
    plan.recompute = found[4] == "full" ? Recompute::Full : Recompute::None;
  }
}

std::vector<program::Program> programs_of(const Row& row, const std::string& models, Plan& plan) {
  std::smatch found;
  if (!std::regex_match(row.report, found,
                        std::regex("(\\w+)-(.+)-b(\\d+)-c(\\d+)-g(\\d)(-.*)?"))) {
    fail("{}: not a report of scripts/gpu-plans", row.report);
  }
  const bool trains = found[1] == "training";
  ModelSpec model = read_model(models + "/" + found[2].str() + ".json");
  const bool drops = row.run.starts_with("two GPUs");
  if (trains && !drops) model.router.drop = DropPolicy::None;
  Workload workload;
  workload.global_batch = number(found, 3);
  if (trains) {
    workload.sequence = number(found, 4);
  } else {
    workload.kind = WorkloadKind::Generation;
    workload.prompt = number(found, 4);
    workload.output = 1;
  }
  plan = single_rank_plan(model, workload);
  plan.dtype = Dtype::Bf16;
  plan.device = DeviceKind::Cuda;
  read_degrees(row, plan);
  for (MoeLayerPlan& moe : plan.moe_layers) {
    if (plan.world > 1) moe.receive_rows = planner::receive_rows_bound(plan, moe);
  }
  if (!trains) {
    const std::int64_t rows = plan.sequences_per_rank(), keys = workload.prompt + 1;
    return {program::build_generate(plan, Rank(0),
                                    {.rows = rows,
                                     .sequences = rows,
                                     .samples = rows,
                                     .max_context = keys,
                                     .context = static_cast<double>(keys)})};
  }
  std::vector<program::Program> programs = {program::build_train_step(plan, Rank(0))};
  if (plan.accumulation > 1) {
    programs.push_back(program::build_train_step(plan, Rank(0), {.first = false}));
  }
  programs.push_back(program::build_update(plan, Rank(0)));
  return programs;
}

struct Errors {
  std::vector<double> before, after;
};

std::string quantiles(std::vector<double> errors) {
  std::sort(errors.begin(), errors.end());
  const auto at = [&](double q) {
    const auto last = static_cast<double>(errors.size() - 1);
    return 100 * errors[static_cast<std::size_t>(std::lround(q * last))];
  };
  return fmt::format("{:6.2f} {:6.2f} {:6.2f}", at(0.5), at(0.9), at(1));
}

void print(const std::vector<Row>& rows, const std::string& models, const ClusterSpec& cluster) {
  std::map<std::string, Errors> all;
  fmt::print("{:100} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7}\n", "step, MB", "measured", "beside",
             "waste", "counted", "before%", "after%");
  for (const Row& row : rows) {
    Plan plan;
    const std::vector<program::Program> programs = programs_of(row, models, plan);
    const std::int64_t waste = program::page_waste(programs);
    const std::int64_t counted =
        program::bytes_beside_buffers(plan, programs, cluster.device.libraries);
    const auto measured = static_cast<double>(row.measured);
    const double before = static_cast<double>(row.buffers) / measured - 1;
    const double after = static_cast<double>(row.buffers + counted) / measured - 1;
    for (const std::string& name :
         {fmt::format("{} of {}",
                      plan.workload.kind == WorkloadKind::Training ? "training" : "decode",
                      plan.world),
          fmt::format("all of {}", plan.world)}) {
      all[name].before.push_back(std::abs(before));
      all[name].after.push_back(std::abs(after));
    }
    fmt::print("{:100} {:9.1f} {:7.1f} {:7.1f} {:7.1f} {:7.2f} {:7.2f}\n", row.step.substr(0, 100),
               measured / 1e6, (measured - static_cast<double>(row.buffers)) / 1e6,
               static_cast<double>(waste) / 1e6, static_cast<double>(counted) / 1e6, 100 * before,
               100 * after);
  }
  fmt::print("\n{:16} {:>5}  {:>20}  {:>20}\n", "errors in %: median, p90, most", "steps",
             "buffers alone", "with what lies beside");
  for (const auto& [name, errors] : all) {
    fmt::print("{:30} {:5}  {:>20}  {:>20}\n", name, errors.after.size(), quantiles(errors.before),
               quantiles(errors.after));
  }
}

}  // namespace

void memory_tables(const std::string& file, const std::string& cluster) {
  const JsonDocument document = JsonDocument::read(file);
  std::vector<Row> rows;
  for (const auto& [run, body] : document.value()["runs"].items()) {
    if (run.find("one of them") != std::string::npos) continue;  // steps of the other two runs
    for (const Json& step : body["steps"]) {
      Row row{.run = run,
              .report = step["report"],
              .step = step["step"],
              .buffers = step["predicted_memory_bytes"],
              .measured = step["measured_memory_bytes"]};
      if (row.measured > 0) rows.push_back(std::move(row));
    }
  }
  print(rows, "profiles/models", read_cluster(cluster));
}

}  // namespace imhotep

int main(int count, char** words) {
  if (count != 3) {
    fmt::print(stderr, "usage: memory_tables docs/benchmarks/gpu-h200-plans.json CLUSTER.json\n");
    return 2;
  }
  try {
    imhotep::memory_tables(words[1], words[2]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
