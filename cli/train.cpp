// imhotep train: runs a training plan on its ranks.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/prediction.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/ranks_per_node.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "executor/comm/stop_signal.h"
#include "executor/runtime/runner.h"
#include "executor/train/training_run.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::string plan;
  executor::TrainingRunOptions run;
  std::int64_t seed = 1, keep = 2;
  std::optional<std::int64_t> ranks_per_node;
  bool identical = false;
};

void print_outcome(const executor::TrainingOutcome& outcome, const std::string& out,
                   const Session& session) {
  const RunReport& report = outcome.report;
  if (session.json) {
    Json json = {{"run", out},
                 {"steps", report.steps},
                 {"first_loss", report.first_loss},
                 {"last_loss", report.last_loss},
                 {"held_out_loss", outcome.held_out_loss},
                 {"step_us", report.measured_us},
                 {"predicted_us", report.predicted_us},
                 {"tokens_per_s", report.tokens_per_s},
                 {"replayed", report.replayed},
                 {"overflow_rows", report.overflow_rows},
                 {"checkpoint", outcome.checkpoint},
                 {"report", out + "/report.json"}};
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("loss {:.3f} -> {:.3f}", report.first_loss, report.last_loss);
  if (outcome.held_out_tokens > 0) {
    fmt::print(", held out {:.3f} (perplexity {:.1f}, {} tokens)", outcome.held_out_loss,
               std::exp(outcome.held_out_loss), outcome.held_out_tokens);
  }
  if (report.replayed > 0) {
    fmt::print("\n{} replayed in smaller micro-batches: up to {} rows for one rank",
               format_items(report.replayed, "step"), report.overflow_rows);
  }
  if (report.measured_us > 0) {
    fmt::print("\n{} a step, {} tokens/s; predicted {} ({:+.1f} %)",
               format_time(report.measured_us), format_count(report.tokens_per_s),
               format_time(report.predicted_us),
               100 * relative_error(report.predicted_us, report.measured_us));
  }
  fmt::print("\ncheckpoint {}\nreport     {}/report.json\n", outcome.checkpoint, out);
}

int train(const Options& options, const Plan& plan, const executor::Bootstrap& bootstrap,
          const Session& session) {
  executor::watch_stop_signals();
  std::unique_ptr<Progress> progress;
  const auto notify = [&](const executor::TrainingProgress& p) {
    if (!progress) progress = std::make_unique<Progress>("training", "steps", !session.quiet);
    std::string note =
        fmt::format("loss {:.3f}  {} tokens/s", p.loss, format_count(p.tokens_per_s));
    if (p.replayed > 0) note += fmt::format("  {} replayed", p.replayed);
    progress->update(p.step, p.steps, note);
  };
  const auto say = [&](const std::string& text) {
    progress.reset();
    if (!session.quiet) fmt::print(stderr, "{}\n", text);
  };
  executor::TrainingOutcome outcome =
      executor::run_training(plan, options.run, bootstrap, notify, say);
  progress.reset();
  if (bootstrap.rank() == 0) {
    outcome.report = save_report(
        outcome.report,
        fmt::format("imhotep train {} --data {} --out {} --steps {} --seed {}", options.plan,
                    options.run.data, options.run.out, options.run.steps, options.seed),
        options.run.out + "/report.json");
    print_outcome(outcome, options.run.out, session);
  }
  return outcome.stop_signal != 0 ? executor::stop_exit_code(outcome.stop_signal) : 0;
}

}  // namespace

Run setup_train(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  executor::TrainingRunOptions& run = options->run;
  arguments.required("PLAN", options->plan, "a plan file for training");
  arguments.required("--data", run.data, "folder of text files");
  arguments.required("--out", run.out, "run folder, made anew");
  arguments.integer("--steps", run.steps, "optimizer steps");
  arguments.integer("--seed", options->seed, "of weights, order and dropping", 0);
  arguments.integer("--save-every", run.save_every, "steps between checkpoints; 0: at the end", 0);
  arguments.integer("--keep", options->keep, "newest checkpoints that stay");
  arguments.integer("--evaluate-every", run.evaluate_every,
                    "steps between held-out losses; 0: at the end", 0);
  arguments.flag("--resume", run.resume, "go on from the newest checkpoint");
  arguments.flag("--overwrite", run.overwrite, "train anew in a folder that exists");
  arguments.flag("--identical-experts", options->identical, "all experts start equal (DeepSpeed)");
  declare_ranks_per_node(arguments, options->ranks_per_node);
  arguments.example("imhotep train plan.json --data texts --out run/a --steps 200");
  arguments.example("mpirun -n 8 imhotep train plan.json --data texts --out run/a --steps 200");
  return [options](const Session& session) {
    Plan plan = read_plan(options->plan);
    draw_nodes(plan, options->ranks_per_node);
    if (plan.workload.kind != WorkloadKind::Training) {
      fail_input("{}: the plan is for generation; make one with: imhotep plan {} --training",
                 options->plan, plan.model.name);
    }
    executor::check_runnable(plan);
    options->run.initialize.seed = static_cast<std::uint64_t>(options->seed);
    options->run.keep_checkpoints = static_cast<int>(options->keep);
    if (options->identical) {
      options->run.initialize.experts = executor::ExpertStart::Identical;
    }
    return on_ranks(plan, [&](const executor::Bootstrap& bootstrap) {
      return train(*options, plan, bootstrap, session);
    });
  };
}

}  // namespace imhotep::cli
