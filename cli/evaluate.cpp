// imhotep evaluate: loss, perplexity and the log-probability of every token of a text.

#include <algorithm>
#include <chrono>
#include <cmath>
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
#include "executor/data/corpus.h"
#include "executor/runtime/step_report.h"
#include "executor/train/saved_state.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::string run, data, plan, logprobs, report;
  std::optional<std::int64_t> ranks_per_node;
};

// The text as one stream of tokens, a separator before every document.
std::vector<std::int32_t> tokens_of(const std::string& path, const executor::Tokenizer& tokenizer) {
  const executor::Corpus corpus = executor::open_corpus(path);
  std::vector<std::string> notices;
  std::vector<std::int32_t> tokens;
  for (std::size_t i = 0; i < corpus.files.size(); ++i) {
    tokens.push_back(tokenizer.separator());
    tokenizer.encode(executor::read_document(corpus, i, notices), tokens);
  }
  if (tokens.size() < 2) fail_input("{}: no text to evaluate", path);
  return tokens;
}

// Windows that overlap by nothing: token 0 of the stream has no prediction, all others have one.
class Evaluation {
 public:
  Evaluation(const Options& options, Plan plan, const executor::Tokenizer& tokenizer,
             const executor::Bootstrap& bootstrap)
      : options_(options),
        plan_(std::move(plan)),
        bootstrap_(bootstrap),
        pool_(bootstrap),
        tokens_(tokens_of(options.data, tokenizer)) {}

  int run(const Session& session) {
    const std::int64_t sequence = plan_.workload.sequence;
    const int per_node = (bootstrap_.world() + bootstrap_.nodes() - 1) / bootstrap_.nodes();
    executor::Trainer trainer(plan_, Rank(bootstrap_.rank()), pool_,
                              {.evaluate_sequences = plan_.micro_batch, .ranks_on_node = per_node});
    {
      Progress loading("loading", "bytes", !session.quiet && bootstrap_.rank() == 0);
      executor::load_weights(options_.run, plan_, bootstrap_, trainer.runner(),
                             [&](auto done, auto all) { loading.update(done, all); });
    }
    const auto count = static_cast<std::int64_t>(tokens_.size());
    const std::int64_t windows = (count - 1 + sequence - 1) / sequence;
    const std::int64_t per_step = plan_.micro_batch * plan_.data;
    std::vector<double> logprob(static_cast<std::size_t>(windows * sequence), 0.0);
    Progress progress("evaluating", "tokens", !session.quiet && bootstrap_.rank() == 0);
    if (!options_.report.empty()) observe(trainer.runner());
    using Clock = std::chrono::steady_clock;
    for (std::int64_t w = 0; w < windows; w += per_step) {
      const auto start = Clock::now();
      evaluate_step(trainer, w, logprob);
      const std::chrono::duration<double, std::micro> time = Clock::now() - start;
      end_step(time.count());
      progress.update(std::min((w + per_step) * sequence, count), count);
    }
    share(logprob);
    if (bootstrap_.rank() != 0) return 0;
    if (!options_.report.empty()) write_times();
    report(logprob, session);
    return 0;
  }

 private:
  void observe(executor::Runner& runner) {
    runner.observe([this](const program::Operation& operation, double time_us) {
      current_.emplace_back(operation, time_us);
    });
  }
  // The first step touches memory for the first time.
  void end_step(double time_us) {
    const auto operations = std::exchange(current_, {});
    if (options_.report.empty() || steps_++ == 0 || last_replayed_) return;
    for (const auto& [operation, operation_us] : operations) times_.add(operation, operation_us);
    times_.end_step(time_us);
  }
  void write_times() const {
    if (times_.steps() == 0 && replayed_ == 0) {
      fail_input("a report needs a text of more than {} tokens",
                 plan_.data * plan_.micro_batch * plan_.workload.sequence);
    }
    const auto tokens = plan_.data * plan_.micro_batch * plan_.workload.sequence;
    RunReport report =
        executor::step_report(plan_, "evaluation", times_, static_cast<double>(tokens));
    report.replayed = replayed_;
    report.overflow_rows = overflow_rows_;
    save_report(report, fmt::format("imhotep evaluate {} --data {}", options_.run, options_.data),
                options_.report);
  }

  void evaluate_step(executor::Trainer& trainer, std::int64_t first_window,
                     std::vector<double>& logprob) {
    const std::int64_t sequence = plan_.workload.sequence;
    const RankPlace place = rank_place(plan_, Rank(bootstrap_.rank()));
    const std::int64_t own = first_window + place.data * plan_.micro_batch;
    std::vector<double> values(static_cast<std::size_t>(plan_.micro_batch * sequence));
    const auto batch = [&](std::int64_t first, std::span<std::int32_t> inputs,
                           std::span<std::int32_t> targets) {
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const std::size_t at = static_cast<std::size_t>(first * sequence) + i;
        inputs[i] = at < tokens_.size() ? tokens_[at] : 0;
        targets[i] = at + 1 < tokens_.size() ? tokens_[at + 1] : -1;
      }
    };
    const auto replays = trainer.evaluate(own, batch, values).replays;
    if (replays.count > 0) {
      ++replayed_;
      overflow_rows_ = std::max(overflow_rows_, replays.worst.rows);
    }
    last_replayed_ = replays.count > 0;
    if (place.tensor != 0) return;  // its peers hold the same
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t at = static_cast<std::size_t>(own * sequence) + i;
      if (at < logprob.size()) logprob[at] = values[i];
    }
  }

  void share(std::vector<double>& logprob) {
    if (bootstrap_.world() == 1) return;
    pool_.get(world_group(plan_))
        .all_reduce(logprob.data(), static_cast<std::int64_t>(logprob.size()), Dtype::F64);
  }

  void report(const std::vector<double>& logprob, const Session& session) const {
    const std::size_t count = tokens_.size() - 1;
    double sum = 0;
    std::string lines;
    for (std::size_t i = 0; i < count; ++i) {
      sum -= logprob[i];
      if (!options_.logprobs.empty()) {
        lines += fmt::format("{{\"index\": {}, \"token\": {}, \"logprob\": {:.9g}}}\n", i + 1,
                             tokens_[i + 1], logprob[i]);
      }
    }
    if (!options_.logprobs.empty()) write_text_file(options_.logprobs, lines);
    const double loss = sum / static_cast<double>(count);
    if (session.json) {
      const Json json = {{"loss", loss},
                         {"perplexity", std::exp(loss)},
                         {"tokens", count},
                         {"replayed", replayed_},
                         {"overflow_rows", overflow_rows_}};
      fmt::print("{}\n", json.dump(2));
    } else {
      fmt::print("loss {:.4f}  perplexity {:.2f}  tokens {}\n", loss, std::exp(loss), count);
    }
  }

  const Options& options_;
  Plan plan_;
  const executor::Bootstrap& bootstrap_;
  executor::CommunicatorPool pool_;
  std::vector<std::int32_t> tokens_;
  executor::StepTimes times_;
  std::vector<std::pair<program::Operation, double>> current_;
  std::int64_t steps_ = 0, replayed_ = 0, overflow_rows_ = 0;
  bool last_replayed_ = false;
};

Plan plan_of(const Options& options, const DeviceChoice& device) {
  if (!options.plan.empty()) return read_plan(options.plan);
  Workload workload;
  const ModelSpec model = executor::checkpoint_model(options.run);
  workload.sequence = std::min<std::int64_t>(model.context, 256);
  workload.global_batch = 4;
  Plan plan = single_rank_plan(model, workload);
  set_device(plan, device);
  return plan;
}

}  // namespace

Run setup_evaluate(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  const auto device = std::make_shared<DeviceChoice>();
  arguments.required("RUN", options->run, "a run folder or a checkpoint");
  declare_device(arguments, device);
  arguments.required("--data", options->data, "a text file or a folder");
  arguments.output("--logprobs", options->logprobs, "JSON lines: index, token, logprob");
  arguments.output("--report", options->report, "write what a step took, for compare");
  arguments.text("--plan", options->plan, "a training plan; else one rank");
  declare_ranks_per_node(arguments, options->ranks_per_node);
  arguments.example("imhotep evaluate run/a --data book.txt --logprobs book.jsonl");
  return [options, device](const Session& session) {
    const executor::Tokenizer tokenizer = executor::checkpoint_tokenizer(options->run);
    Plan plan = plan_of(*options, *device);
    draw_nodes(plan, options->ranks_per_node);
    executor::check_runnable(plan);
    return on_ranks(plan, [&](const executor::Bootstrap& bootstrap) {
      return Evaluation(*options, plan, tokenizer, bootstrap).run(session);
    });
  };
}

}  // namespace imhotep::cli
