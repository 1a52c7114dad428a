// imhotep plan: the best degrees for a model on a cluster.

#include <memory>

#include "cli/commands.h"
#include "cli/plan_output.h"
#include "cli/plan_ranges.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "core/base/error.h"
#include "core/base/fail.h"

namespace imhotep::cli {
namespace {

struct Options {
  PlanOptions request;
  std::int64_t top = 5;
  std::string file;
  RangeOptions ranges;
};

// The words that would ask for the same again.
std::vector<std::string> repeated(const PlanOptions& options) {
  std::vector<std::string> words = {"plan", options.model, "--cluster", options.cluster};
  const auto add = [&](const char* flag, const std::optional<std::int64_t>& value) {
    if (value) words.insert(words.end(), {flag, std::to_string(*value)});
  };
  const auto add_text = [&](const char* flag, const std::string& value) {
    if (!value.empty()) words.insert(words.end(), {flag, value});
  };
  add("--gpus", options.gpus);
  if (options.training) words.emplace_back("--training");
  if (options.generation) words.emplace_back("--generation");
  add_text("--batch", options.batch);
  add("--sequence", options.sequence);
  add("--prompt", options.prompt);
  add("--output", options.output);
  add_text("--workload", options.workload);
  if (options.objective) add_text("--objective", name_of(*options.objective));
  add_text("--dtype", options.dtype);
  add_text("--capacity", options.capacity);
  add_text("--kv", options.kv);
  add("--nodes", options.nodes);
  const auto add_number = [&](const char* flag, const std::optional<double>& value) {
    if (value) words.insert(words.end(), {flag, fmt::format("{:g}", *value)});
  };
  add_number("--price", options.price);
  add_number("--skew", options.skew);
  add_text("--load", options.load);
  add_text("--tokens", options.tokens);
  add_text("--limit", options.limit);
  add_text("--fix", options.fix);
  add_text("--profile", options.profile);
  if (options.style) add_text("--style", name_of(*options.style));
  return words;
}

planner::OpenResult search(const PlanRequest& asked, const simulator::Simulator& simulator,
                           std::int64_t top, const Session& session) {
  Progress progress("planning", "plans", !session.quiet);
  return planner::search_open(planner::alternatives_of(asked.request, asked.open), simulator,
                              {.objective = asked.objective,
                               .top = static_cast<int>(top),
                               .layerwise = true,
                               .threads = 2,
                               .limits = asked.limits,
                               .progress = [&progress](double done, double total) {
                                 progress.update(static_cast<std::int64_t>(done),
                                                 static_cast<std::int64_t>(total));
                                 return signal_exit_code() == 0;
                               }});
}

int plan(const Options& options, const Session& session) {
  if (options.ranges.any()) {
    const PlanRequest asked = resolve(options.request);
    if (asked.open.combinations() > 1) {
      fail_input(
          "--bands, --robust, --front, --architectures and --priced-only leave nothing open; "
          "give one --dtype, one --capacity and one --batch");
    }
    return plan_ranges(asked, options.ranges, options.file, session);
  }
  PlanAnswer answer{.asked = resolve(options.request), .command = repeated(options.request)};
  const simulator::Simulator simulator(answer.asked.request.cluster, answer.asked.profile);
  planner::OpenResult result = search(answer.asked, simulator, options.top, session);
  answer.found = std::move(result.found);
  answer.alternatives = std::move(result.alternatives);
  const bool found = !answer.found.plans.empty();
  if (found && !options.file.empty()) {
    write_plan(answer.found.plans.front().plan, options.file);
    answer.file = options.file;
  }
  if (!found && !answer.found.interrupted) {
    answer.relaxations = planner::nearest_relaxations(answer.asked.request, simulator,
                                                      answer.asked.objective, answer.asked.limits);
  }
  if (session.json) {
    print_plan_json(answer);
  } else {
    print_plan_screen(answer, session);
  }
  return found ? 0 : static_cast<int>(ErrorKind::Infeasible);
}

}  // namespace

Run setup_plan(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  declare_request(arguments, options->request);
  arguments.integer("--top", options->top, "plans to show");
  arguments.output("-o,--out", options->file, "write the best plan here");
  declare_ranges(arguments, options->ranges);
  arguments.example(
      "imhotep plan 1.3b-pr-moe-64-128 --cluster azure-nd-a100-v4 --gpus 128 -o p.json");
  arguments.example("imhotep plan 350m-moe-128 --generation --dtype any --batch 1:128 --kv fill");
  return [options](const Session& session) { return plan(*options, session); };
}

}  // namespace imhotep::cli
