#pragma once
// What is asked of the planner on the command line, with everything that was left to defaults.

#include <optional>
#include <string>

#include "cli/arguments.h"
#include "planner/objective/limits.h"
#include "planner/space/alternatives.h"
#include "simulator/step.h"

namespace imhotep::cli {

struct PlanOptions {
  std::string model, cluster = "local", profile, fix, workload, limit, tokens, load;
  std::string dtype, capacity, batch, kv;  // one value, or several that are left open
  std::optional<std::int64_t> gpus, nodes, ranks_per_node, sequence, prompt, output;
  std::optional<double> price, skew;
  std::optional<ExecutionStyle> style;
  std::optional<planner::Objective> objective;
  bool training = false, generation = false;
};

// Declares MODEL and all options of a request.
void declare_request(Arguments& arguments, PlanOptions& options);

struct PlanRequest {
  planner::Request request;   // where something is open: with the first of its values
  planner::OpenChoices open;  // what the search chooses beside the degrees
  planner::Objective objective{};
  planner::Limits limits;
  std::optional<profiles::Profile> profile;
  // What was asked, as lines for people: value, then "(default)" where nobody chose it.
  std::string workload_text, dtype_text, objective_text, prices_text, devices_text;
};

// Rules for what is not given. Generation is planned when asked for by --generation, --prompt,
// --output or --objective latency, training else. A batch is 512 training sequences or 128
// generated ones on GPUs, 8 on processors, rounded up to a multiple of --gpus; a sequence 2048
// tokens (256 on processors), a prompt and an answer 128 each, within the context of the model.
// GPUs work in bf16, processors in fp32. Where several batches are possible, throughput decides
// unless something else is asked for. Throws: Error(Input).
[[nodiscard]] PlanRequest resolve(const PlanOptions& options);

// "none": every route is kept; else slots by the even share, as the model's policy fills them; "":
// as the model says. Throws: Error(Input).
void change_router(const std::string& capacity, RouterSpec& router);

// Experts are chosen as this report counted them. Throws: Error(Input) for a report that counted
// none.
[[nodiscard]] RoutingSpec measured_routing(const std::string& report);

// A file where it looks like one, else the measured profile of that name. Throws: Error(Missing)
// that names the nearest; Error(Input) for a file that is no profile.
[[nodiscard]] profiles::Profile named_profile(const std::string& name);
// The profile called so (a name, a file, or "none"); without a name the one of the cluster.
[[nodiscard]] std::optional<profiles::Profile> choose_profile(const std::string& name,
                                                              const ClusterSpec& cluster);
// "profile NAME of DATE" or what it means that there is none.
[[nodiscard]] std::string prices_text(const std::optional<profiles::Profile>& profile,
                                      const ClusterSpec& cluster);

// What the search chose of what was open, and nothing else: "bf16, batch 64, KV cache 131072
// tokens" (of a data rank); empty where nothing was.
[[nodiscard]] std::string choice_text(const PlanRequest& asked, const Plan& plan);

// "training, 512 sequences of 2048 tokens a step".
[[nodiscard]] std::string describe(const Workload& workload);

}  // namespace imhotep::cli
