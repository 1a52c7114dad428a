#include "cli/plan_request.h"

#include <algorithm>
#include <filesystem>

#include "cli/local_gpu.h"
#include "cli/ranks_per_node.h"
#include "core/base/fail.h"
#include "core/base/units.h"
#include "core/spec/report.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

using planner::Objective;

constexpr std::int64_t kMostNodes = 8192;

bool on_processors(const ClusterSpec& cluster) { return cluster.device.kind == DeviceKind::Cpu; }

std::string marked(const std::string& text, bool by_default) {
  return by_default ? text + " (default)" : text;
}

WorkloadKind kind_of(const PlanOptions& options) {
  if (options.training && options.generation) {
    fail_input("--training and --generation contradict each other");
  }
  const bool generates = options.generation || options.prompt || options.output;
  if (options.training && (options.prompt || options.output)) {
    fail_input("--prompt and --output belong to generation, not to --training");
  }
  if (options.sequence && generates) {
    fail_input("--sequence belongs to training; generation takes --prompt and --output");
  }
  if (options.training || options.sequence) return WorkloadKind::Training;
  return generates || options.objective == Objective::Latency ? WorkloadKind::Generation
                                                              : WorkloadKind::Training;
}

planner::OpenChoices open_of(const PlanOptions& options, DeviceKind device) {
  planner::OpenChoices open;
  if (!options.dtype.empty()) open.dtypes = planner::parse_dtypes(options.dtype, device);
  if (!options.capacity.empty()) open.capacities = planner::parse_capacities(options.capacity);
  if (!options.batch.empty()) open.batches = planner::parse_batches(options.batch);
  return open;
}

// What was not asked for follows from where it runs and what the model can hold.
Workload workload_of(const PlanOptions& options, const planner::OpenChoices& open,
                     const planner::Request& request) {
  Workload work;
  const bool processors = on_processors(request.cluster);
  const std::int64_t context = request.model.context;
  if (!options.workload.empty()) {
    work = read_workload(options.workload);
  } else {
    work.kind = kind_of(options);
    const bool trains = work.kind == WorkloadKind::Training;
    work.global_batch = processors ? 8 : trains ? 512 : 128;
    const std::int64_t ranks = options.gpus.value_or(1);  // so that every rank can have its share
    work.global_batch = (work.global_batch + ranks - 1) / ranks * ranks;
    work.sequence = std::min<std::int64_t>(context, processors ? 256 : 2048);
    work.prompt = std::min<std::int64_t>(128, std::max<std::int64_t>(1, context / 2));
    if (options.output) {
      work.prompt = std::clamp<std::int64_t>(context - *options.output, 1, work.prompt);
    }
    const std::int64_t prompt = options.prompt.value_or(work.prompt);
    work.output = std::clamp<std::int64_t>(context - prompt, 1, 128);
  }
  if (!open.batches.empty()) work.global_batch = open.batches.front();
  work.sequence = options.sequence.value_or(work.sequence);
  work.prompt = options.prompt.value_or(work.prompt);
  work.output = options.output.value_or(work.output);
  if (options.skew) {
    work.routing = {.kind = *options.skew > 0 ? RoutingKind::Zipf : RoutingKind::Uniform,
                    .skew = *options.skew};
  }
  if (!options.load.empty()) {
    if (options.skew) fail_input("--skew and --load both say how tokens spread over experts");
    work.routing = measured_routing(options.load);
  }
  return work;
}

std::vector<int> worlds_of(const PlanOptions& options, const ClusterSpec& cluster) {
  constexpr std::int64_t kMostProcessorRanks = 1024;
  if (!options.gpus) return planner::default_worlds(cluster);
  const std::int64_t most = on_processors(cluster) ? kMostProcessorRanks : cluster.devices();
  if (*options.gpus > most) {
    const std::int64_t nodes = (*options.gpus - 1) / cluster.devices_per_node + 1;
    const bool grows = !on_processors(cluster) && nodes <= kMostNodes;
    fail_input("--gpus {}: {} has {} device{}; possible: 1 to {}{}", *options.gpus, cluster.name,
               cluster.devices(), cluster.devices() == 1 ? "" : "s", most,
               grows ? fmt::format(", or more nodes of it: --nodes {}", nodes) : "");
  }
  return {static_cast<int>(*options.gpus)};
}

// The cluster as it is asked for: other nodes, another price.
void change_cluster(const PlanOptions& options, ClusterSpec& cluster) {
  if (options.nodes) {
    if (*options.nodes > kMostNodes) {
      fail_input("--nodes {}: possible: 1 to {}", *options.nodes, kMostNodes);
    }
    cluster.nodes = static_cast<int>(*options.nodes);
  }
  if (options.ranks_per_node) {
    draw_nodes(cluster, *options.ranks_per_node, options.gpus.value_or(1));
  }
  if (!options.price) return;
  if (*options.price < 0) fail_input("--price {}: expected a number >= 0", *options.price);
  cluster.price_per_device_hour = *options.price;
}

// "300B" are billions here, as people say it, not bytes.
double tokens_of(const std::string& text) {
  if (text.empty()) return 0;
  const bool billions = text.ends_with('B');
  const double tokens = parse_number(billions ? text.substr(0, text.size() - 1) : text);
  if (!(tokens > 0)) fail_input("--tokens {}: expected a number > 0 such as 300B", text);
  return billions ? 1e9 * tokens : tokens;
}

// What is open is shown as it was asked for.
void describe_open(const PlanOptions& options, PlanRequest& asked) {
  std::vector<std::string> open;
  if (asked.open.batches.size() > 1) {
    const Workload& work = asked.request.workload;
    asked.workload_text = fmt::format("generation, {} + {} tokens each", work.prompt, work.output);
  }
  if (asked.open.dtypes.size() > 1) asked.dtype_text = options.dtype + " (open)";
  if (asked.open.batches.size() > 1) open.push_back(options.batch + " sequences at once");
  if (asked.open.capacities.size() > 1) open.push_back("capacity " + options.capacity);
  if (asked.request.kv.any()) open.push_back("KV cache " + options.kv);
  if (!open.empty()) asked.workload_text += fmt::format(", open: {}", fmt::join(open, ", "));
}

std::string devices_text(const PlanOptions& options, const PlanRequest& asked) {
  const ClusterSpec& cluster = asked.request.cluster;
  const char* unit = on_processors(cluster) ? "rank" : "device";
  if (!options.gpus) return fmt::format("up to {} {}s (default)", cluster.devices(), unit);
  const int world = asked.request.worlds.front();
  std::string text = fmt::format("{} {}{}", world, unit, world == 1 ? "" : "s");
  if (world > cluster.devices()) text += fmt::format(" on {} cores", cluster.devices());
  return text;
}

}  // namespace

void change_router(const std::string& capacity, RouterSpec& router) {
  if (capacity.empty()) return;
  const std::vector<planner::Capacity> capacities = planner::parse_capacities(capacity);
  if (capacities.size() > 1) fail_input("--capacity {}: expected one value", capacity);
  planner::set_capacity(router, capacities.front());
}

void declare_request(Arguments& arguments, PlanOptions& options) {
  arguments.required("MODEL", options.model, "a catalogue name or a .json file");
  arguments.text("--cluster", options.cluster, "a catalogue name or a .json file; default: local");
  arguments.integer("--gpus", options.gpus, "devices, or ranks on processors; default: best count");
  arguments.flag("--training", options.training, "plan a training run (the default)");
  arguments.flag("--generation", options.generation, "plan generation of text");
  arguments.text("--batch", options.batch,
                 "sequences a step, or at once; generation: 1:128 is open");
  arguments.integer("--sequence", options.sequence, "training: tokens a sequence");
  arguments.integer("--prompt", options.prompt, "generation: tokens of a prompt");
  arguments.integer("--output", options.output, "generation: tokens of an answer");
  arguments.text("--workload", options.workload, "a workload file instead of the defaults");
  arguments.choice("--objective", options.objective, "what is best");
  arguments.text("--dtype", options.dtype, "fp32, bf16 or fp64; open: a list, or any");
  arguments.text("--limit", options.limit,
                 "what a plan must keep to: token=25ms,first_token=1s,gpus=64");
  arguments.text("--tokens", options.tokens, "training: length of the run, such as 300B");
  arguments.number("--price", options.price, "of a device and hour, instead of the cluster's");
  arguments.integer("--nodes", options.nodes, "nodes, instead of the cluster's");
  arguments.choice("--style", options.style, "whose way to carry it out; others are only priced");
  declare_ranks_per_node(arguments, options.ranks_per_node);
  arguments.number("--skew", options.skew, "routing by a Zipf law with this exponent");
  arguments.text("--load", options.load, "routing as this report.json counted it");
  arguments.text("--capacity", options.capacity,
                 "training: slots by the even share, 1.25; none; open: a list, or any");
  arguments.text("--kv", options.kv,
                 "generation: tokens of a rank's KV cache; open: a list, or fill");
  arguments.text("--fix", options.fix, "degrees by hand: tensor=2,expert=4,slicing=1");
  arguments.text("--profile", options.profile, "a profile's name or file; none: roofline");
}

RoutingSpec measured_routing(const std::string& report) {
  const RunReport run = read_report(report);
  if (run.expert_load.empty()) fail_input("{}: the run counted no routes", report);
  return {.kind = RoutingKind::Measured, .histograms = run.expert_load};
}

PlanRequest resolve(const PlanOptions& options) {
  PlanRequest asked;
  planner::Request& request = asked.request;
  request.model = profiles::find_model(options.model);
  request.cluster = find_cluster(options.cluster);
  change_cluster(options, request.cluster);
  asked.open = open_of(options, request.cluster.device.kind);
  request.workload = workload_of(options, asked.open, request);
  request.dtype = !asked.open.dtypes.empty()       ? asked.open.dtypes.front()
                  : on_processors(request.cluster) ? Dtype::F32
                                                   : Dtype::Bf16;
  if (!asked.open.capacities.empty()) {
    planner::set_capacity(request.model.router, asked.open.capacities.front());
  }
  if (!options.kv.empty()) request.kv = planner::parse_kv_budget(options.kv);
  request.style = options.style.value_or(ExecutionStyle::Imhotep);
  request.worlds = worlds_of(options, request.cluster);
  if (!options.fix.empty()) {
    request.fixed = planner::parse_fixed_degrees(options.fix, request.model);
  }
  const WorkloadKind kind = request.workload.kind;
  asked.objective = options.objective.value_or(
      asked.open.batches.size() > 1 ? Objective::Throughput : planner::default_objective(kind));
  asked.profile = choose_profile(options.profile, request.cluster);
  const double tokens = tokens_of(options.tokens);
  if (!options.limit.empty()) {
    asked.limits = planner::parse_limits(options.limit, request.workload, request.cluster, tokens);
  }
  asked.limits.tokens = tokens;
  std::erase_if(request.worlds, [&](int world) {
    return !options.gpus && world > asked.limits.gpus.value_or(world);
  });
  if (options.gpus && asked.limits.gpus && *options.gpus > *asked.limits.gpus) {
    fail_input("--gpus {} and the limit gpus={} contradict each other", *options.gpus,
               *asked.limits.gpus);
  }
  const bool sized =
      !options.batch.empty() && (options.sequence || (options.prompt && options.output));
  asked.workload_text =
      describe(request.workload) + (sized || !options.workload.empty() ? "" : " (defaults)");
  asked.dtype_text = marked(name_of(request.dtype), options.dtype.empty());
  describe_open(options, asked);
  asked.objective_text = marked(name_of(asked.objective), !options.objective);
  asked.devices_text = devices_text(options, asked);
  asked.prices_text = prices_text(asked.profile, request.cluster);
  if (request.style != ExecutionStyle::Imhotep) {
    asked.prices_text +=
        fmt::format(", in the style of {} (priced, not run)", name_of(request.style));
  }
  return asked;
}

std::string choice_text(const PlanRequest& asked, const Plan& plan) {
  std::vector<std::string> parts;
  if (asked.open.dtypes.size() > 1) parts.emplace_back(name_of(plan.dtype));
  if (asked.open.capacities.size() > 1) parts.push_back(planner::gate_text(plan.model.router));
  if (asked.open.batches.size() > 1) {
    parts.push_back(fmt::format("batch {}", plan.workload.global_batch));
  }
  if (asked.request.kv.any()) {
    parts.push_back(fmt::format("KV cache {} tokens", plan.kv_tokens));
  }
  return fmt::to_string(fmt::join(parts, ", "));
}

std::string describe(const Workload& work) {
  if (work.kind == WorkloadKind::Training) {
    return fmt::format("training, {} sequences of {} tokens a step", work.global_batch,
                       work.sequence);
  }
  return fmt::format("generation, {} sequences at once, {} + {} tokens each", work.global_batch,
                     work.prompt, work.output);
}

profiles::Profile named_profile(const std::string& name) {
  if (name.ends_with(".json") || name.find('/') != std::string::npos) {
    return profiles::read_profile(name);
  }
  if (const auto found = profiles::find_profile(name)) return *found;
  std::vector<std::string> known;
  for (const std::string& file : profiles::profile_files()) {
    known.push_back(std::filesystem::path(file).stem().string());
  }
  const std::string near = nearest(name, known);
  fail_missing("no profile is called \"{}\"{}", name,
               near.empty() ? "; imhotep profiles lists them"
                            : fmt::format(" (did you mean \"{}\"?)", near));
}

std::optional<profiles::Profile> choose_profile(const std::string& name,
                                                const ClusterSpec& cluster) {
  if (name == "none") return std::nullopt;
  if (name.empty()) return profiles::find_profile(cluster);
  return named_profile(name);
}

std::string prices_text(const std::optional<profiles::Profile>& profile,
                        const ClusterSpec& cluster) {
  if (!profile) return fmt::format("roofline: no profile of {}", cluster.device.name);
  const bool same = profile->device.name == cluster.device.name;
  return fmt::format(
      "profile {} of {}{}{}", profile->name, profile->date.substr(0, 10),
      same ? "" : fmt::format(", transferred from {}", profile->device.name),
      profile->kernels.empty() ? "" : fmt::format(", transferred from {}", profile->kernels));
}

}  // namespace imhotep::cli
