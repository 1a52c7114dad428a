// imhotep generate: text from a trained model.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/prediction.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/ranks_per_node.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "executor/generate/decode_recorder.h"
#include "executor/train/saved_state.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::string run, plan, prompt, report;
  std::int64_t max_tokens = 64, top_k = 0, seed = 1;
  std::optional<double> temperature, top_p;
  std::optional<std::int64_t> ranks_per_node;
};

// One rank holding the whole model, with room for this prompt and its answer.
Plan plan_of(const Options& options, const DeviceChoice& device, std::int64_t prompt) {
  if (!options.plan.empty()) return read_plan(options.plan);
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  workload.global_batch = 1;
  workload.prompt = prompt;
  workload.output = options.max_tokens;
  Plan plan = single_rank_plan(executor::checkpoint_model(options.run), workload);
  set_device(plan, device);
  return plan;
}

int generate(const Options& options, const Plan& plan, const executor::Tokenizer& tokenizer,
             const std::vector<std::int32_t>& prompt, const executor::Bootstrap& bootstrap,
             const Session& session) {
  executor::CommunicatorPool pool(bootstrap);
  const int per_node = (bootstrap.world() + bootstrap.nodes() - 1) / bootstrap.nodes();
  executor::Generator generator(plan, Rank(bootstrap.rank()), pool, per_node);
  {
    Progress loading("loading", "bytes", !session.quiet && bootstrap.rank() == 0);
    executor::load_weights(options.run, plan, bootstrap, generator.runner(),
                           [&](auto done, auto all) { loading.update(done, all); });
  }
  const executor::GenerationRequest request{.prompt = prompt,
                                            .max_tokens = options.max_tokens,
                                            .temperature = options.temperature.value_or(0.8),
                                            .top_k = options.top_k,
                                            .top_p = options.top_p.value_or(1.0),
                                            .seed = static_cast<std::uint64_t>(options.seed),
                                            .stop_token = tokenizer.separator()};
  executor::TextStream stream(tokenizer);
  const bool speaks = bootstrap.rank() == 0;
  if (speaks && !session.json) fmt::print("{}", options.prompt);
  const auto on_token = [&](std::size_t, std::int32_t token) {
    if (!speaks || session.json) return;
    fmt::print("{}", stream.add(token));
    std::fflush(stdout);
  };
  std::optional<executor::DecodeRecorder> recorder;
  if (!options.report.empty()) recorder.emplace(generator, plan);
  const auto results = generator.generate(
      std::vector{request}, [&](bool done) { return bootstrap.all_true(done); }, on_token);
  if (!speaks) return 0;
  if (recorder) {
    save_report(recorder->report(),
                fmt::format("imhotep generate {} --max-tokens {} --seed {}", options.run,
                            options.max_tokens, options.seed),
                options.report);
  }
  const executor::GenerationResult& result = results.front();
  const executor::GenerationTimes& times = generator.times();
  const double per_token =
      times.decode_steps > 0 ? times.decode_us / static_cast<double>(times.decode_steps) : 0;
  if (session.json) {
    const Json json = {{"prompt", options.prompt},
                       {"text", tokenizer.decode(result.tokens)},
                       {"tokens", result.tokens},
                       {"logprobs", result.logprobs},
                       {"finish_reason", result.stopped ? "stop" : "length"},
                       {"prefill_us", times.prefill_us},
                       {"token_us", per_token}};
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{}\n", stream.finish());
  std::fflush(stdout);  // where both streams are one, the text ends first
  if (!session.quiet) {
    fmt::print(stderr, "{} tokens, {:.2f} ms a token\n", result.tokens.size(), per_token / 1e3);
  }
  return 0;
}

}  // namespace

Run setup_generate(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  const auto device = std::make_shared<DeviceChoice>();
  arguments.required("RUN", options->run, "a run folder or a checkpoint");
  declare_device(arguments, device);
  arguments.text("--prompt", options->prompt, "text to go on from");
  arguments.integer("--max-tokens", options->max_tokens, "tokens at most");
  arguments.number("--temperature", options->temperature, "0: always the likeliest (0.8)");
  arguments.integer("--top-k", options->top_k, "of the k likeliest; 0: of all", 0);
  arguments.number("--top-p", options->top_p, "of the likeliest that sum to p");
  arguments.integer("--seed", options->seed, "of the draws", 0);
  arguments.text("--plan", options->plan, "a generation plan; else one rank");
  declare_ranks_per_node(arguments, options->ranks_per_node);
  arguments.output("--report", options->report, "write what a decode step took, for compare");
  arguments.example("imhotep generate run/a --prompt \"In the beginning\" --max-tokens 64");
  return [options, device](const Session& session) {
    const executor::Tokenizer tokenizer = executor::checkpoint_tokenizer(options->run);
    std::vector<std::int32_t> prompt = {tokenizer.separator()};
    tokenizer.encode(options->prompt, prompt);
    Plan plan = plan_of(*options, *device, static_cast<std::int64_t>(prompt.size()));
    draw_nodes(plan, options->ranks_per_node);
    if (plan.workload.kind != WorkloadKind::Generation) {
      fail_input("{}: the plan is for training; make one with: imhotep plan {} --generation",
                 options->plan, plan.model.name);
    }
    executor::check_runnable(plan);
    if (!options->plan.empty()) executor::expect_model(options->run, plan.model);
    const auto longest = static_cast<std::int64_t>(prompt.size()) + options->max_tokens;
    if (longest > plan.model.context + 1) {
      fail_input("the prompt has {} tokens and the model's context {}: --max-tokens {} is too many",
                 prompt.size(), plan.model.context, options->max_tokens);
    }
    return on_ranks(plan, [&](const executor::Bootstrap& bootstrap) {
      return generate(*options, plan, tokenizer, prompt, bootstrap, session);
    });
  };
}

}  // namespace imhotep::cli
