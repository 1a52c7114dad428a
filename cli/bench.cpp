// imhotep bench: how near to this machine's ceilings a model trains and decodes on one rank.

#include <chrono>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/random.h"
#include "core/base/units.h"
#include "core/spec/parameters.h"
#include "executor/calibrate/machine_rates.h"
#include "executor/generate/generator.h"
#include "executor/runtime/step_times.h"
#include "executor/train/trainer.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::string what, model;
  std::int64_t batch = 0, sequence = 256, context = 128, repeats = 20, seed = 1;
};

struct Outcome {
  double time_us = 0, spread = 0;
  double work = 0;     // FLOPs or bytes of a step
  double ceiling = 0;  // per microsecond
  double tokens = 0;   // a step
  [[nodiscard]] double share() const { return work / time_us / ceiling; }
};

Outcome bench_training(const ModelSpec& model, const Options& options, Progress& progress) {
  Workload workload;
  workload.sequence = std::min<std::int64_t>(options.sequence, model.context);
  workload.global_batch = options.batch > 0 ? options.batch : 8;
  const Plan plan = single_rank_plan(model, workload);
  const executor::Bootstrap bootstrap;
  executor::CommunicatorPool pool(bootstrap);
  executor::Trainer trainer(plan, Rank(0), pool,
                            {.initialize = {.seed = static_cast<std::uint64_t>(options.seed)}});
  trainer.initialize();
  std::vector<double> times;
  for (std::int64_t step = 0; step < options.repeats + 2; ++step) {
    const auto result = trainer.step(step, [&](std::int64_t first, auto inputs, auto targets) {
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const std::uint64_t word = hash(5, static_cast<std::uint64_t>(first), i);
        inputs[i] = static_cast<std::int32_t>(word % model.vocab);
        targets[i] = static_cast<std::int32_t>((word >> 20) % model.vocab);
      }
    });
    if (step >= 2) times.push_back(result.time_us);
    progress.update(step + 1, options.repeats + 2);
  }
  const double tokens = static_cast<double>(workload.global_batch * workload.sequence);
  const double context = static_cast<double>(workload.sequence + 1) / 2;
  return {.time_us = executor::median(times),
          .spread = executor::relative_spread(times),
          .work = 3 * forward_flops(model, context) * tokens,
          .tokens = tokens};
}

Outcome bench_decode(const ModelSpec& model, const Options& options) {
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  workload.global_batch = options.batch > 0 ? options.batch : 1;
  workload.prompt = options.context;
  workload.output = options.repeats + 2;
  const Plan plan = single_rank_plan(model, workload);
  const executor::Bootstrap bootstrap;
  executor::CommunicatorPool pool(bootstrap);
  executor::Generator generator(plan, Rank(0), pool, 1);
  executor::initialize_weights(plan, generator.runner(),
                               {.seed = static_cast<std::uint64_t>(options.seed)});
  std::vector<executor::GenerationRequest> requests(workload.global_batch);
  for (std::size_t r = 0; r < requests.size(); ++r) {
    requests[r].max_tokens = workload.output;
    for (std::int64_t t = 0; t < options.context; ++t) {
      requests[r].prompt.push_back(
          static_cast<std::int32_t>(hash(9, r, static_cast<std::uint64_t>(t)) % model.vocab));
    }
  }
  const auto results = generator.generate(requests, [](bool done) { return done; });
  std::vector<double> times = generator.times().decode_step_us;
  times.erase(times.begin());
  const auto batch = static_cast<double>(workload.global_batch);
  // Weights that one token reads, once; the keys and values of every sequence. With several
  // sequences more experts are read: the expectation for uniform routing.
  double bytes = 4.0 * static_cast<double>(active_parameters(model) -
                                           std::int64_t{model.context} * model.hidden);
  for (int layer = 0; layer < model.layers; ++layer) {
    const double experts = model.experts_at(layer);
    if (experts == 0) continue;
    const double touched = experts * (1 - std::pow(1 - model.top_k / experts, batch));
    bytes += 4.0 * (touched - model.top_k) * (8.0 * model.hidden * model.hidden);
  }
  const double context =
      static_cast<double>(options.context) + 0.5 * static_cast<double>(workload.output);
  bytes += batch * context * 8.0 * model.layers * model.hidden;
  return {.time_us = executor::median(times),
          .spread = executor::relative_spread(times),
          .work = bytes,
          .tokens = batch};
}

int bench(const Options& options, const Session& session) {
  const ModelSpec model = profiles::find_model(options.model);
  const bool training = options.what == "training";
  Progress progress("bench", "steps", !session.quiet);
  const executor::MachineRates rates = executor::measure_machine_rates();
  Outcome outcome =
      training ? bench_training(model, options, progress) : bench_decode(model, options);
  const executor::MachineRates after = executor::measure_machine_rates();
  // The machine is measured before and after; its better half is the ceiling.
  outcome.ceiling = training ? std::max(rates.gemm_flops_per_us, after.gemm_flops_per_us)
                             : std::max(rates.read_bytes_per_us, after.read_bytes_per_us);
  if (session.json) {
    const Json json = {
        {"bench", options.what},
        {"model", model.name},
        {"machine", machine_text()},
        {"date", utc_now()},
        {"step_us", outcome.time_us},
        {"spread", outcome.spread},
        {"samples", options.repeats},
        {training ? "flops" : "bytes", outcome.work},
        {training ? "ceiling_flops_per_us" : "ceiling_bytes_per_us", outcome.ceiling},
        {"share_of_ceiling", outcome.share()},
        {"tokens_per_s", outcome.tokens / outcome.time_us * 1e6}};
    fmt::print("{}\n", json.dump(2));
    return 0;
  }
  fmt::print("{} of {} on one rank, fp32: {} a step (spread {:.1f} %, {} steps), {} tokens/s\n",
             options.what, model.name, format_time(outcome.time_us), 100 * outcome.spread,
             options.repeats, format_count(outcome.tokens / outcome.time_us * 1e6));
  if (training) {
    fmt::print(
        "{} useful FLOP a step at {:.1f} GFLOP/s: {:.1f} % of this machine's GEMM rate "
        "({:.1f} GFLOP/s, 1024 x 1024 x 1024, same thread, same run)\n",
        format_count(outcome.work), outcome.work / outcome.time_us / 1e3, 100 * outcome.share(),
        outcome.ceiling / 1e3);
  } else {
    fmt::print(
        "{} read a step at {:.1f} GB/s: {:.1f} % of the bandwidth of one thread reading "
        "1 GiB ({:.1f} GB/s, same run)\n",
        format_bytes(outcome.work), outcome.work / outcome.time_us / 1e3, 100 * outcome.share(),
        outcome.ceiling / 1e3);
  }
  return 0;
}

}  // namespace

Run setup_bench(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.required("WHAT", options->what, "training or decode");
  arguments.required("MODEL", options->model, "catalogue name or model file");
  arguments.integer("--batch", options->batch, "sequences (training 8, decode 1)");
  arguments.integer("--sequence", options->sequence, "training: tokens a sequence");
  arguments.integer("--context", options->context, "decode: tokens of the prompt");
  arguments.integer("--repeats", options->repeats, "measured steps", 3);
  arguments.integer("--seed", options->seed, "of the random weights", 0);
  arguments.example("imhotep bench training tiny-pr-moe-4-8");
  arguments.example("imhotep bench decode cpu-500m --batch 1");
  return [options](const Session& session) {
    if (options->what != "training" && options->what != "decode") {
      fail_input("expected \"training\" or \"decode\", got \"{}\"", options->what);
    }
    return bench(*options, session);
  };
}

}  // namespace imhotep::cli
