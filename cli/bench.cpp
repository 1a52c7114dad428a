// imhotep bench: how near to its device's ceilings one rank trains, generates, routes and updates.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>

#include "cli/bench_report.h"
#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/plan_request.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/signals.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "executor/bench/bench.h"
#include "executor/calibrate/machine_rates.h"
#include "executor/comm/stop_signal.h"
#include "executor/runtime/own_device.h"
#include "kernels/cuda_api.h"
#include "planner/space/request.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

using executor::BenchResult;

struct Options {
  std::string what, model, device = "auto", dtype, routing, folder, report, capacity;
  std::optional<std::int64_t> batch, sequence, context, hidden, experts;
  std::int64_t repeats = 30, seed = 1;
  bool backward = false, operations = false;
  std::int64_t ranks = 1;
  std::string fix, only;
};

// The ranks and degrees that --ranks and --fix ask for; a layer's experts are spread as far as they
// go where nothing is said.
Plan layout_of(const Options& options, const ModelSpec& model) {
  planner::FixedDegrees fixed;
  if (!options.fix.empty()) fixed = planner::parse_fixed_degrees(options.fix, model);
  Plan plan = single_rank_plan(model, {});
  plan.world = static_cast<int>(options.ranks);
  plan.tensor = fixed.tensor.value_or(1);
  if (plan.world % plan.tensor != 0) {
    fail_input("--fix: tensor={} does not divide {} rank{}", plan.tensor, plan.world,
               plan.world == 1 ? "" : "s");
  }
  plan.data = fixed.data.value_or(plan.world / plan.tensor);
  plan.zero = fixed.zero.value_or(plan.data > 1 ? 1 : 0);
  plan.ranks_per_node = plan.world;
  plan.rank_order = fixed.rank_order.value_or(RankOrder::Consecutive);
  plan.micro_batch = fixed.micro_batch.value_or(0);
  plan.accumulation = fixed.accumulation.value_or(1);
  plan.recompute = fixed.recompute.value_or(Recompute::None);
  const auto at = [](const std::vector<int>& list, std::size_t i) {
    return i < list.size() && list[i] > 0 ? list[i] : 0;
  };
  for (std::size_t i = 0; i < plan.moe_layers.size(); ++i) {
    MoeLayerPlan& moe = plan.moe_layers[i];
    moe.slicing = std::max(1, at(fixed.slicing, i));
    const int most = std::gcd(plan.world / moe.slicing, moe.experts);
    moe.expert = at(fixed.expert, i) > 0 ? at(fixed.expert, i) : most;
    moe.replica = std::max(1, plan.world / (moe.slicing * moe.expert));
    moe.exchange = fixed.exchange.value_or(ExchangeAlgorithm::Flat);
  }
  return plan;
}

// What one device can do at best, measured before and after; the better half counts.
struct Ceilings {
  double flops_per_us = 0, bytes_per_us = 0;
  void better_of(const Ceilings& other) {
    flops_per_us = std::max(flops_per_us, other.flops_per_us);
    bytes_per_us = std::max(bytes_per_us, other.bytes_per_us);
  }
};

Ceilings measure(kernels::Device device, Dtype dtype, bool copies) {
  if (device == kernels::Device::Cpu) {
    const executor::MachineRates rates = executor::measure_machine_rates();
    return {rates.gemm_flops_per_us, rates.read_bytes_per_us};
  }
  const executor::DeviceRates rates = executor::measure_device_rates();
  return {dtype == Dtype::Bf16 ? rates.bf16_flops_per_us : rates.fp32_flops_per_us,
          copies ? rates.copy_bytes_per_us : rates.read_bytes_per_us};
}

kernels::Device device_of(const Options& options) {
  if (options.device == "cpu") return kernels::Device::Cpu;
  std::string why;
  const bool found = detect_local_gpus(&why).has_value();
  if (options.device == "cuda" && !found) fail_missing("no GPU can be used here: {}", why);
  return found ? kernels::Device::Cuda : kernels::Device::Cpu;
}

executor::BenchRequest request_of(const Options& options) {
  executor::BenchRequest request;
  request.model = profiles::find_model(options.model);
  if (options.hidden) {
    request.model.hidden = static_cast<int>(*options.hidden);
    request.model.heads = std::max(1, request.model.hidden / 64);
  }
  if (options.experts) {
    request.model.experts.slots.assign(1, static_cast<int>(*options.experts));
  }
  change_router(options.capacity, request.model.router);
  request.device = device_of(options);
  const bool gpu = request.device == kernels::Device::Cuda;
  request.dtype = options.dtype.empty() ? (gpu ? Dtype::Bf16 : Dtype::F32) : Dtype::F32;
  if (options.dtype == "bf16") request.dtype = Dtype::Bf16;
  if (gpu) request.libraries = find_cluster(kLocalGpu).device.libraries;
  const bool tokens = options.what == "layer" || options.what == "gate";
  request.batch = options.batch.value_or(tokens                     ? (gpu ? 16384 : 256)
                                         : options.what == "decode" ? 1
                                                                    : 8);
  request.sequence =
      std::min<std::int64_t>(options.sequence.value_or(gpu ? 1024 : 256), request.model.context);
  // A prompt may fill the context; a decode step adds a token to it.
  const std::int64_t most = request.model.context - (options.what == "prefill" ? 0 : 1);
  request.context = options.context.value_or(std::min<std::int64_t>(gpu ? 512 : 128, most));
  if (request.context > most) {
    fail_input("--context: {} keeps {} tokens, so at most {} here; got {}", request.model.name,
               request.model.context, most, request.context);
  }
  request.repeats = static_cast<int>(options.repeats);
  request.seed = static_cast<std::uint64_t>(options.seed);
  request.backward = options.backward;
  request.operations = options.operations || !options.report.empty();
  request.only = options.only;
  request.folder = options.folder;
  if (options.ranks > 1 || !options.fix.empty()) {
    request.layout = layout_of(options, request.model);
  }
  request.routing = options.routing == "skewed"    ? executor::Routing::Skewed
                    : options.routing == "uniform" ? executor::Routing::Uniform
                                                   : executor::Routing::Natural;
  return request;
}

BenchResult run(const std::string& what, const executor::BenchRequest& request,
                const executor::Bootstrap& bootstrap) {
  if (what == "training") return executor::bench_training(request, bootstrap);
  if (what == "decode") return executor::bench_decode(request, bootstrap);
  if (what == "prefill") return executor::bench_prefill(request, bootstrap);
  if (what == "layer") return executor::bench_layer(request, bootstrap);
  if (what == "gate") return executor::bench_gate(request, bootstrap);
  if (what == "load") return executor::bench_load(request, bootstrap);
  return executor::bench_optimizer(request, bootstrap);
}

// Least time that the counted work could take: in training the products and then the update, else
// whichever of arithmetic and memory takes longer.
double floor_us(const std::string& what, const BenchResult& result, const Ceilings& ceilings) {
  const double products = result.flops / ceilings.flops_per_us;
  const double moves = result.bytes / ceilings.bytes_per_us;
  return what == "training" ? products + moves : std::max(products, moves);
}

Json json_of(const Options& options, const executor::BenchRequest& request,
             const BenchResult& result, const Ceilings& ceilings) {
  Json json = {{"bench", options.what},
               {"model", request.model.name},
               {"hidden", request.model.hidden},
               {"device", request.device == kernels::Device::Cuda
                              ? kernels::cuda_api().device(executor::own_device()).name
                              : machine_text()},
               {"dtype", name_of(request.dtype)},
               {"batch", request.batch},
               {"sequence", request.sequence},
               {"context", request.context},
               {"routing", options.routing.empty() ? "natural" : options.routing},
               {"drop", name_of(request.model.router.drop)},
               {"capacity_factor", request.model.router.capacity_factor},
               {"backward", request.backward},
               {"ranks", options.ranks},
               {"degrees", options.fix},
               {"only", options.only},
               {"date", utc_now()},
               {"versions", executor::library_versions()},
               {"step_us", result.time_us()},
               {"spread", result.spread()},
               {"samples", result.times_us.size()},
               {"flops", result.flops},
               {"bytes", result.bytes},
               {"ceiling_flops_per_us", ceilings.flops_per_us},
               {"ceiling_bytes_per_us", ceilings.bytes_per_us},
               {"floor_us", floor_us(options.what, result, ceilings)},
               {"share_of_ceiling", floor_us(options.what, result, ceilings) / result.time_us()},
               {"buffer_bytes", result.memory_bytes},
               {"tokens_per_s", result.tokens / result.time_us() * 1e6}};
  for (const OperationTime& row : result.operations) {
    json["operations"].push_back({{"operation", row.operation},
                                  {"pass", row.pass},
                                  {"count", row.count},
                                  {"time_us", row.measured_us}});
  }
  if (result.device_bytes > 0) json["device_bytes"] = result.device_bytes;
  if (result.distinct_experts >= 0) json["distinct_experts"] = result.distinct_experts;
  return json;
}

void print_operations(std::vector<OperationTime> rows) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.measured_us > b.measured_us; });
  for (const OperationTime& row : rows) {
    fmt::print("  {:26} {:9} {:4} {:>10}\n", row.operation, row.pass, row.count,
               format_time(row.measured_us));
  }
}

void print_text(const Options& options, const executor::BenchRequest& request,
                const BenchResult& result, const Ceilings& ceilings) {
  const bool gpu = request.device == kernels::Device::Cuda;
  fmt::print("{} of {} on {} {}, {}: {} (spread {:.1f} %, {} samples)",
             options.only.empty() ? options.what : options.only, request.model.name,
             options.ranks == 1 ? "one" : std::to_string(options.ranks) + " x",
             gpu ? kernels::cuda_api().device(executor::own_device()).name : "rank",
             name_of(request.dtype), format_time(result.time_us()), 100 * result.spread(),
             result.times_us.size());
  if (result.tokens > 0) {
    fmt::print(", {} tokens/s", format_count(result.tokens / result.time_us() * 1e6));
  }
  fmt::print("\n");
  if (result.flops > 0) {
    fmt::print("{} useful FLOP at {:.4g} TFLOP/s, {:.1f} % of {:.4g} TFLOP/s (GEMM, same run)\n",
               format_count(result.flops), result.flops / result.time_us() / 1e6,
               100 * result.flops / result.time_us() / ceilings.flops_per_us,
               ceilings.flops_per_us / 1e6);
  }
  if (result.bytes > 0) {
    fmt::print("{} counted at {:.4g} GB/s, {:.1f} % of {:.4g} GB/s ({}, same run)\n",
               format_bytes(result.bytes), result.bytes / result.time_us() / 1e3,
               100 * result.bytes / result.time_us() / ceilings.bytes_per_us,
               ceilings.bytes_per_us / 1e3, options.what == "load" ? "the file alone" : "memory");
  }
  if (result.distinct_experts >= 0) {
    fmt::print("{:.0f} distinct experts touched\n", result.distinct_experts);
  }
  print_operations(result.operations);
  if (options.ranks > 1 || !options.only.empty()) return;  // not all is counted
  const double least = floor_us(options.what, result, ceilings);
  fmt::print("floor {}: {:.1f} % of the ceiling\n", format_time(least),
             100 * least / result.time_us());
}

struct Stopped {
  int signal = 0;
  std::string message;
};

int bench_as_rank(const Options& options, const Session& session,
                  const executor::Bootstrap& bootstrap) {
  executor::BenchRequest request = request_of(options);
  const bool speaks = bootstrap.rank() == 0;
  if (bootstrap.world() != options.ranks) {
    fail_input("started as {} ranks, but --ranks says {}", bootstrap.world(), options.ranks);
  }
  Progress progress("bench", "steps", speaks && !session.quiet);
  const bool alone = bootstrap.world() == 1;
  if (!alone) executor::watch_stop_signals();
  request.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(done, total);
    const std::string message = fmt::format("stopped after {} of {} steps", done, total);
    if (alone && signal_exit_code() != 0) fail("{}", message);
    if (alone) return;
    // Ranks see a signal at different steps: they stop at the same one.
    const auto signal = static_cast<int>(bootstrap.largest(executor::stop_signal()));
    if (signal != 0) throw Stopped{signal, message};
  };
  const bool copies = options.what == "training" || options.what == "optimizer";
  const bool load = options.what == "load";
  Ceilings ceilings;
  if (!load) ceilings = measure(request.device, request.dtype, copies);
  bootstrap.barrier();
  BenchResult result;
  try {
    result = run(options.what, request, bootstrap);
  } catch (const Stopped& stopped) {
    if (speaks) fmt::print(stderr, "imhotep: {}\n", stopped.message);
    return executor::stop_exit_code(stopped.signal);
  }
  if (load) ceilings = {.flops_per_us = 1, .bytes_per_us = result.ceiling_bytes_per_us};
  if (!load) ceilings.better_of(measure(request.device, request.dtype, copies));
  if (!speaks) return 0;
  ceilings.flops_per_us *= static_cast<double>(options.ranks);
  if (!options.report.empty()) {
    save_bench_report(result, options.what,
                      fmt::format("imhotep bench {} {}", options.what, options.model),
                      options.report);
  }
  if (session.json) {
    fmt::print("{}\n", json_of(options, request, result, ceilings).dump(2));
  } else {
    print_text(options, request, result, ceilings);
  }
  return 0;
}

int bench(const Options& options, const Session& session) {
  const bool spread =
      options.what == "training" || options.what == "decode" || options.what == "layer";
  if (options.ranks > 1 && !spread) {
    fail_input("--ranks goes with training, decode and layer, not with {}", options.what);
  }
  if (!options.capacity.empty() &&
      (options.what == "decode" || options.what == "prefill" || options.what == "load")) {
    fail_input("--capacity goes with what trains, not with {}", options.what);
  }
  if (!options.fix.empty() && !spread) {
    fail_input("--fix goes with training, decode and layer, not with {}", options.what);
  }
  if (!options.only.empty() && options.what != "decode" && options.what != "layer") {
    fail_input("--only goes with decode and layer, not with {}", options.what);
  }
  if (options.ranks > 1) static_cast<void>(request_of(options));  // errors before ranks start
  return on_ranks(static_cast<int>(options.ranks), [&](const executor::Bootstrap& bootstrap) {
    return bench_as_rank(options, session, bootstrap);
  });
}

}  // namespace

Run setup_bench(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.required("WHAT", options->what,
                     "training, decode, prefill, layer, gate, optimizer or load");
  arguments.required("MODEL", options->model, "catalogue name or model file");
  arguments.integer("--batch", options->batch,
                    "sequences (decode 1, else 8); layer and gate: tokens");
  arguments.integer("--sequence", options->sequence, "training: tokens a sequence");
  arguments.integer("--context", options->context, "decode: keys in the cache; prefill: prompt");
  arguments.one_of("--device", {"auto", "cpu", "cuda"}, "auto takes a GPU where there is one",
                   [options](const std::string& text) { options->device = text; });
  arguments.one_of("--dtype", {"fp32", "bf16"}, "default: bf16 on a GPU, fp32 on a CPU",
                   [options](const std::string& text) { options->dtype = text; });
  arguments.one_of("--routing", {"natural", "uniform", "skewed"}, "decode: who chooses the experts",
                   [options](const std::string& text) { options->routing = text; });
  arguments.text("--capacity", options->capacity,
                 "training: slots by the even share; none: keep all");
  arguments.integer("--hidden", options->hidden, "another width than the model's");
  arguments.integer("--experts", options->experts, "another number of experts a layer");
  arguments.flag("--operations", options->operations, "time every operation by itself too");
  arguments.integer("--ranks", options->ranks, "GPUs or CPU ranks (training, decode, layer)", 1);
  arguments.text("--fix", options->fix, "degrees: tensor=2,expert=1,slicing=2 (else data)");
  arguments.text("--only", options->only, "the operations of this name alone (decode, layer)");
  arguments.output("--report", options->report,
                   "training, decode, prefill: write a report for compare");
  arguments.flag("--backward", options->backward, "layer: forward and backward");
  arguments.text("--folder", options->folder, "load: where the checkpoint is written for a while");
  arguments.integer("--repeats", options->repeats, "measured repetitions", 3);
  arguments.integer("--seed", options->seed, "of the random weights", 0);
  arguments.example("imhotep bench training tiny-pr-moe-4-8");
  arguments.example("imhotep bench decode cpu-500m --batch 1");
  arguments.example("imhotep bench load cpu-500m --folder /data");
  arguments.example("imhotep bench decode 1.3b-pr-moe-64-128 --batch 64 --ranks 2 --fix expert=2");
  arguments.example("imhotep bench layer 350m-pr-moe-32-64 --experts 32 --backward");
  return [options](const Session& session) {
    expect_one_of("WHAT", {"training", "decode", "prefill", "layer", "gate", "optimizer", "load"},
                  options->what);
    const bool step =
        options->what == "training" || options->what == "decode" || options->what == "prefill";
    if (!options->report.empty() && (!step || !options->only.empty())) {
      fail_input("--report: expected a whole training, decode or prefill step");
    }
    return bench(*options, session);
  };
}

}  // namespace imhotep::cli
