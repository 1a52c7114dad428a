#include "executor/train/training_run.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "core/base/units.h"
#include "executor/comm/stop_signal.h"
#include "executor/data/prepare.h"
#include "executor/data/sampler.h"
#include "executor/runtime/launch_check.h"
#include "executor/runtime/step_report.h"
#include "executor/train/finite_check.h"
#include "executor/train/folder_claim.h"
#include "executor/train/saved_state.h"
#include "executor/train/trainer.h"
#include "executor/train/training_log.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

// How often the log tells the load of experts: in steps, and at most so many times.
constexpr std::int64_t kLoadEvery = 10, kMostLoads = 200;
// Steps that are not part of the report: they touch memory for the first time.
std::int64_t warm_up_steps(std::int64_t steps) { return std::min<std::int64_t>(2, steps / 2); }

// A run, or anything else that is not ours to write over: all but the prepared text that an
// attempt leaves which failed later.
bool holds_anything(const fs::path& out) {
  if (!fs::exists(out)) return false;
  if (!fs::is_directory(out)) return true;
  return std::any_of(fs::directory_iterator(out), fs::directory_iterator(),
                     [](const fs::directory_entry& e) { return e.path().filename() != "data"; });
}

class TrainingRun {
 public:
  TrainingRun(const Plan& plan, const TrainingRunOptions& options, const Bootstrap& bootstrap,
              const std::function<void(const TrainingProgress&)>& notify,
              const std::function<void(const std::string&)>& say)
      : plan_(plan),
        options_(options),
        bootstrap_(bootstrap),
        notify_(notify),
        say_(say),
        pool_(bootstrap) {}

  TrainingOutcome run() {
    check_launch(plan_, bootstrap_);
    check_runnable(plan_);
    at_first_rank(bootstrap_, [&] {
      check_input();
      claim_.emplace(options_.out);
    });
    prepare_data();
    start_trainer();
    at_first_rank(bootstrap_, [&] { begin_run(); });
    const int signal = train();
    save();
    evaluate_held_out(step_);
    finish(signal);
    return std::move(outcome_);
  }

 private:
  [[nodiscard]] bool first() const { return bootstrap_.rank() == 0; }
  [[nodiscard]] std::string folder(const char* name) const { return options_.out + "/" + name; }

  // Nothing is written before this has passed.
  void check_input() {
    corpus_ = open_corpus(options_.data);
    if (options_.resume) {
      expect_model(options_.out, plan_.model);
      start_ = read_state(find_checkpoint(options_.out) + "/state.json");
      if (start_.seed != options_.initialize.seed) {
        fail_input("{}: the run was started with seed {}, not {}", options_.out, start_.seed,
                   options_.initialize.seed);
      }
    } else if (holds_anything(options_.out) && !options_.overwrite) {
      fail_input(
          "{}: the folder exists and is not empty; try --resume to go on, --overwrite to "
          "train anew, or another --out",
          options_.out);
    }
  }

  // All that could be wrong has been looked at: from here on an earlier run is written over.
  void begin_run() {
    if (options_.overwrite && !options_.resume) fs::remove_all(folder("checkpoints"));
    write_plan(plan_, folder("plan.json"));
    tokenizer_->save(folder("tokenizer.model"));
    log_.emplace(folder("log.jsonl"), start_step_);
  }

  void prepare_data() {
    at_first_rank(bootstrap_, [&] {
      for (const std::string& notice : corpus_.notices) say_(notice);
      const std::string data = folder("data");
      const Tokenizer tokenizer =
          prepare_tokenizer(corpus_, data, TokenizerOptions{.vocab = plan_.model.vocab});
      if (options_.resume && tokenizer.hash_text() != start_.tokenizer_hash) {
        fail_input(
            "{}: this is not the text that the run {} was started with: its tokenizer is {}, that "
            "of the checkpoint {}",
            options_.data, options_.out, tokenizer.hash_text(), start_.tokenizer_hash);
      }
      const PreparedTokens prepared = prepare_tokens(corpus_, data, tokenizer);
      for (const std::string& notice : prepared.notices) say_(notice);
      say_(fmt::format("text: {} in {} files, {} training tokens, {} held out",
                       format_bytes(static_cast<double>(corpus_.bytes())), corpus_.files.size(),
                       prepared.training_tokens, prepared.held_out_tokens));
    });
    tokenizer_.emplace(Tokenizer::load(folder("data/tokenizer.model")));
    tokens_.emplace(folder("data/training.tokens"));
    tokens_->expect_tokenizer(tokenizer_->hash());
    held_out_.emplace(folder("data/held_out.tokens"));
    const std::int64_t sequence = plan_.workload.sequence;
    sampler_.emplace(*tokens_,
                     SamplerOptions{.sequence = sequence, .seed = options_.initialize.seed});
    if (held_out_->count() > sequence) {
      held_out_sampler_.emplace(
          *held_out_, SamplerOptions{.sequence = sequence, .order = WindowOrder::AsWritten});
    }
  }

  void start_trainer() {
    TrainerOptions options{.initialize = options_.initialize, .run_steps = options_.steps};
    options.ranks_on_node = (bootstrap_.world() + bootstrap_.nodes() - 1) / bootstrap_.nodes();
    if (held_out_sampler_) options.evaluate_sequences = plan_.micro_batch;
    const std::int64_t before = memory_in_use();
    trainer_.emplace(plan_, Rank(bootstrap_.rank()), pool_, options);
    resident_before_ = before;
    if (options_.resume) {
      const auto state = load_training_state(options_.out, *tokenizer_, bootstrap_, *trainer_);
      start_step_ = state.step;
      if (first()) say_(fmt::format("resumed after step {}", start_step_));
      saved_step_ = start_step_;
      outcome_.checkpoint = find_checkpoint(options_.out);
    } else {
      trainer_->initialize();
    }
    step_ = start_step_;
  }

  // Of the device that holds the buffers: this process's on a CPU, everybody's on a GPU.
  std::int64_t memory_in_use() const {
    if (plan_.device == DeviceKind::Cpu) return resident_memory_bytes();
    return -free_device_memory_bytes();
  }

  void observe(bool on) {
    Runner& runner = trainer_->runner();
    if (!on) {
      runner.observe({});
      return;
    }
    runner.observe([this](const program::Operation& operation, double time_us) {
      times_.add(operation, time_us);
    });
  }

  // Returns the signal that stopped it, 0 at the end.
  int train() {
    const BatchSource batch = [&](std::int64_t sequence, std::span<std::int32_t> inputs,
                                  std::span<std::int32_t> targets) {
      sampler_->fill(sequence, inputs, targets);
    };
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t load_every = std::max(kLoadEvery, options_.steps / kMostLoads);
    const std::int64_t measured_from = start_step_ + warm_up_steps(options_.steps - start_step_);
    while (step_ < options_.steps) {
      observe(step_ >= measured_from);
      last_ = trainer_->step(step_, batch);
      note_replays();
      if (step_ >= measured_from && last_.replays.count == 0) times_.end_step(last_.time_us);
      check_finite(batch);
      ++step_;
      log_step();
      if (step_ % load_every == 0) note_expert_load();
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
      report_progress(spent.count());
      const int signal = static_cast<int>(bootstrap_.largest(stop_signal()));
      if (signal != 0) {
        if (first()) say_(fmt::format("stopping after step {}: saving a checkpoint", step_));
        return signal;
      }
      const bool more = step_ < options_.steps;
      if (more && options_.evaluate_every > 0 && step_ % options_.evaluate_every == 0) {
        evaluate_held_out(step_);
      }
      if (more && options_.save_every > 0 && step_ % options_.save_every == 0) save();
    }
    return 0;
  }

  // Tells the load since it was told last.
  void note_expert_load() {
    const std::int64_t steps = step_ - start_step_ - expert_load_.steps();
    if (!first() || steps == 0 || plan_.moe_layers.empty()) return;
    const ExpertShares shares = trainer_->take_expert_load();
    log_->expert_load(step_, shares);
    expert_load_.add(shares, steps);
  }

  // What a replayed step took is no step's time.
  void note_replays() {
    if (last_.replays.count == 0) return;
    times_.drop_step();
    RunReport& report = outcome_.report;
    ++report.replayed;
    report.overflow_rows = std::max(report.overflow_rows, last_.replays.worst.rows);
  }

  void check_finite(const BatchSource& batch) {
    if (std::isfinite(last_.loss) && std::isfinite(last_.gradient_norm)) return;
    if (first()) say_(fmt::format("step {} went wrong: repeating it to see where", step_ + 1));
    fail("{}",
         explain_not_finite({step_, last_, outcome_.checkpoint}, batch, bootstrap_, *trainer_));
  }

  void log_step() {
    if (!first()) return;
    const double tokens =
        static_cast<double>(plan_.workload.global_batch * plan_.workload.sequence);
    const double rate = tokens / last_.time_us * 1e6;
    if (step_ == start_step_ + 1) outcome_.report.first_loss = last_.loss;
    outcome_.report.last_loss = last_.loss;
    log_->step(step_, last_, rate);
  }

  void report_progress(double spent_s) {
    if (!first()) return;
    const double done = static_cast<double>(step_ - start_step_);
    const double tokens =
        static_cast<double>(plan_.workload.global_batch * plan_.workload.sequence);
    notify_({.step = step_,
             .steps = options_.steps,
             .loss = last_.loss,
             .tokens_per_s = tokens * done / spent_s,
             .remaining_s = spent_s / done * static_cast<double>(options_.steps - step_),
             .replayed = outcome_.report.replayed});
  }

  // Mean loss over the first held-out windows; every data rank takes its share of each batch.
  void evaluate_held_out(std::int64_t step) {
    if (!held_out_sampler_) return;
    const std::int64_t windows = held_out_sampler_->windows();
    const BatchSource batch = [&](std::int64_t sequence, std::span<std::int32_t> inputs,
                                  std::span<std::int32_t> targets) {
      const std::int64_t length = plan_.workload.sequence;
      for (std::int64_t i = 0; i * length < static_cast<std::int64_t>(inputs.size()); ++i) {
        const auto in = inputs.subspan(i * length, length);
        const auto out = targets.subspan(i * length, length);
        held_out_sampler_->fill((sequence + i) % windows, in, out);
        if (sequence + i >= windows) std::fill(out.begin(), out.end(), -1);
      }
    };
    observe(false);
    double loss = 0, tokens = 0;
    const std::int64_t per_rank = plan_.micro_batch;
    const std::int64_t own = rank_place(plan_, Rank(bootstrap_.rank())).data * per_rank;
    for (std::int64_t b = 0; b < options_.evaluate_batches * plan_.accumulation; ++b) {
      const auto one = trainer_->evaluate(b * per_rank * plan_.data + own, batch);
      loss += one.negative_log_likelihood;
      tokens += static_cast<double>(one.tokens);
    }
    double sums[2] = {loss, tokens};
    const Members peers = data_group(plan_, Rank(bootstrap_.rank()));
    if (peers.size() > 1) pool_.get(peers).all_reduce(sums, 2, Dtype::F64);
    outcome_.held_out_loss = sums[1] > 0 ? sums[0] / sums[1] : 0;
    outcome_.held_out_tokens = static_cast<std::int64_t>(sums[1]);
    if (!first()) return;
    log_->held_out(step, outcome_.held_out_loss, outcome_.held_out_tokens);
  }

  void save() {
    if (saved_step_ == step_) return;
    check_weights_finite(step_, outcome_.checkpoint, bootstrap_, *trainer_);
    outcome_.checkpoint = save_training_state({.step = step_,
                                               .seed = options_.initialize.seed,
                                               .planned_steps = options_.steps,
                                               .learning_rate = last_.learning_rate,
                                               .loss = last_.loss,
                                               .keep = options_.keep_checkpoints},
                                              options_.out, *tokenizer_, bootstrap_, *trainer_);
    saved_step_ = step_;
  }

  void finish(int signal) {
    outcome_.stop_signal = signal;
    const RunReport losses = outcome_.report;
    RunReport& report = outcome_.report;
    report =
        step_report(plan_, "training", times_,
                    static_cast<double>(plan_.workload.global_batch * plan_.workload.sequence));
    report.first_loss = losses.first_loss;
    report.last_loss = losses.last_loss;
    report.replayed = losses.replayed;
    report.overflow_rows = losses.overflow_rows;
    report.predicted_memory_bytes = trainer_->runner().memory().bytes();
    report.measured_memory_bytes = memory_in_use() - resident_before_;
    note_expert_load();
    report.expert_load = expert_load_.mean();
    if (first()) {
      write_text_file(folder("loss.svg"),
                      loss_picture(plan_.model.name, log_->training(), log_->held_out()));
    }
  }

  const Plan& plan_;
  const TrainingRunOptions& options_;
  const Bootstrap& bootstrap_;
  const std::function<void(const TrainingProgress&)>& notify_;
  const std::function<void(const std::string&)>& say_;
  CommunicatorPool pool_;
  Corpus corpus_;                     // rank 0
  TrainingState start_;               // rank 0: of the checkpoint to resume from
  std::optional<FolderClaim> claim_;  // rank 0
  std::optional<Tokenizer> tokenizer_;
  std::optional<TokenFile> tokens_, held_out_;
  std::optional<Sampler> sampler_, held_out_sampler_;
  std::optional<Trainer> trainer_;
  std::optional<TrainingLog> log_;  // rank 0
  StepTimes times_;
  ExpertLoadMean expert_load_;  // rank 0
  StepResult last_;
  std::int64_t step_ = 0, start_step_ = 0, saved_step_ = -1, resident_before_ = 0;
  TrainingOutcome outcome_;
};

}  // namespace

void at_first_rank(const Bootstrap& bootstrap, const std::function<void()>& work) {
  std::string message;
  if (bootstrap.rank() == 0) {
    try {
      work();
    } catch (const Error& error) {
      message = fmt::format("{}{}", static_cast<int>(error.kind()), error.what());
    } catch (const std::exception& error) {
      message = fmt::format("{}{}", static_cast<int>(ErrorKind::Failed), error.what());
    }
  }
  bootstrap.broadcast(message);
  if (!message.empty()) {
    raise(static_cast<ErrorKind>(message[0] - '0'), message.substr(1));
  }
}

TrainingOutcome run_training(const Plan& plan, const TrainingRunOptions& options,
                             const Bootstrap& bootstrap,
                             const std::function<void(const TrainingProgress&)>& notify,
                             const std::function<void(const std::string&)>& say) {
  return TrainingRun(plan, options, bootstrap, notify, say).run();
}

}  // namespace imhotep::executor
