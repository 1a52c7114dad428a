// Steps: what the scheduler decides becomes an order to all ranks, and their answers become news.

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/fail.h"
#include "executor/serve/engine_active.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kLongestIdleUs = 2000;  // a rank that waits hears of work this late
constexpr std::int64_t kReportEvery = 32;      // steps between reports of the experts' load

}  // namespace

StepOrder Engine::order_of(const schedule::Step& step) {
  StepOrder order{.bucket = step.bucket, .ranks = {}};
  order.ranks.resize(step.ranks.size());
  order.report_load = scheduler_.counts().steps % kReportEvery == 0;
  for (std::size_t rank = 0; rank < step.ranks.size(); ++rank) {
    BatchOrder& batch = order.ranks[rank];
    batch.pages = step.ranks[rank].pages;
    for (const schedule::Piece& piece : step.ranks[rank].pieces) {
      const Active& active = *active_.at(piece.request);
      const auto begin = active.tokens.begin() + piece.first;
      const ServeRequest& r = active.request;
      batch.sequences.push_back(
          {.piece = piece,
           .tokens = {begin, begin + piece.count},
           .sampling = {.temperature = r.temperature,
                        .top_p = r.top_p,
                        .top_k = r.top_k,
                        .seed = r.seed,
                        .counter = static_cast<std::uint64_t>(piece.first + piece.count)},
           .alternatives = r.alternatives});
    }
  }
  return order;
}

void Engine::step_once(const schedule::Step& step, Stepper& stepper, const Bootstrap& ranks) {
  const double began = now_us();
  for (const schedule::RequestId id : step.admitted) {
    Active& active = *active_.at(id);
    if (active.placed_us >= 0) continue;  // a second time, after it lost its pages
    active.placed_us = began;
    const std::lock_guard lock(mutex_);
    --open_waiting_;
  }
  const StepOrder order = order_of(step);
  if (plan_.world > 1) {
    std::string bytes = to_bytes(order);
    ranks.broadcast(bytes);
  }
  std::vector<StepOutcome> outcomes = {stepper.run(order)};
  if (plan_.data > 1) {
    const std::vector<std::string> answers = ranks.gather({});
    for (const std::string& answer : answers) {
      if (!answer.empty()) outcomes.push_back(outcome_from(answer));
    }
  }
  take(outcomes, now_us());
  note_steps(step, began, stepper, outcomes);
  publish();
}

void Engine::follow(Stepper& stepper, const Bootstrap& ranks) {
  for (;;) {
    std::string bytes;
    ranks.broadcast(bytes);
    const StepOrder order = order_from(bytes);
    if (order.kind == OrderKind::Stop) return;
    if (order.kind == OrderKind::Idle) {
      std::this_thread::sleep_for(std::chrono::microseconds(order.idle_us));
      continue;
    }
    const StepOutcome outcome = stepper.run(order);
    if (order.ranks.size() == 1) continue;  // rank 0 has the answer of the only data rank
    const bool speaks = stepper.answers() && stepper.data_rank() > 0;
    static_cast<void>(ranks.gather(speaks ? to_bytes(outcome) : std::string()));
  }
}

void Engine::take(const std::vector<StepOutcome>& outcomes, double now) {
  std::vector<schedule::RequestId> stopped;
  for (const StepOutcome& outcome : outcomes) {
    for (const Sampled& sampled : outcome.sampled) {
      Active& active = *active_.at(sampled.request);
      const ServeRequest& request = active.request;
      const std::int64_t count = active.generated() + 1;
      const bool may_stop = count > request.min_tokens;
      const auto& ends = vocabulary_.ends();
      const bool ended = may_stop && !request.ignore_end &&
                         std::find(ends.begin(), ends.end(), sampled.token) != ends.end();
      ServeEvent event{.id = sampled.request, .text = {}, .tokens = {}, .generated = count};
      active.tokens.push_back(sampled.token);
      if (!ended) {
        event.text = active.text.add(sampled.token, may_stop);
        event.tokens.push_back({sampled.token, sampled.logprob, sampled.alternatives});
      }
      metrics_.update([&](Metrics::Values& v) {
        ++v.output_tokens;
        if (active.first_us < 0) {
          v.first_token.add((now - active.arrival_us) / 1e6);
          v.queue.add((active.placed_us - active.arrival_us) / 1e6);
          v.prefill.add((now - active.placed_us) / 1e6);
          v.prompt_tokens += static_cast<std::int64_t>(request.prompt.size());
        } else {
          v.inter_token.add((now - active.last_us) / 1e6);
        }
      });
      if (active.first_us < 0) active.first_us = now;
      active.last_us = now;
      const bool stops = ended || active.text.stopped();
      if (stops) stopped.push_back(sampled.request);
      if (stops || count == request.max_tokens) {
        finish(active, event, stops ? Finish::Stop : Finish::Length, now);
      }
      events_.push_back(std::move(event));
    }
  }
  for (const schedule::RequestId id : scheduler_.complete(stopped)) active_.erase(id);
}

void Engine::finish(Active& active, ServeEvent& event, Finish why, double now) {
  event.finish = why;
  event.text += active.text.finish();
  event.started = true;
  const auto count = static_cast<double>(active.generated());
  metrics_.update([&](Metrics::Values& v) {
    ++v.ended[reason_name(why)];
    v.whole.add((now - active.arrival_us) / 1e6);
    v.decode.add((now - active.first_us) / 1e6);
    v.inference.add((now - active.placed_us) / 1e6);
    if (count > 1) v.per_token.add((now - active.first_us) / 1e6 / (count - 1));
    v.prompt_sizes.add(static_cast<double>(active.request.prompt.size()));
    v.output_sizes.add(count);
    v.asked_sizes.add(static_cast<double>(active.request.max_tokens));
  });
  // As many end in a time as run at once, divided by how long one runs (Little's law); a moving
  // mean over about thirty requests.
  const double share = 1.0 / 30, span = std::max(1.0, now - active.placed_us);
  const double rate = static_cast<double>(scheduler_.counts().running) / span;
  completions_per_us_ = completions_per_us_ + share * (rate - completions_per_us_);
}

void Engine::note_steps(const schedule::Step& step, double began_us, Stepper& stepper,
                        const std::vector<StepOutcome>& outcomes) {
  const schedule::Counts counts = scheduler_.counts();
  unreported_rows_ += step.rows();
  metrics_.update([&](Metrics::Values& v) {
    v.running = counts.running;
    v.waiting = counts.waiting;
    v.pages_used = counts.pages_used;
    v.preemptions = counts.preemptions;
    v.steps = counts.steps;
    v.step_seconds += (now_us() - began_us) / 1e6;
    v.exchange_seconds += (stepper.exchange_us() - last_exchange_us_) / 1e6;
    v.program_seconds = stepper.program_us() / 1e6;
    v.bucket_loads = stepper.bucket_loads();
    v.step_tokens.add(static_cast<double>(step.rows()));
    if (outcomes.front().load.empty()) return;
    double routed = 0;
    for (const StepOutcome& outcome : outcomes) {
      std::size_t at = 0;
      for (ExpertLoad& layer : v.experts) {
        for (double& tokens : layer.tokens) {
          routed += outcome.load.at(at);
          tokens += outcome.load.at(at++);
        }
      }
    }
    const double passed =
        static_cast<double>(unreported_rows_) * static_cast<double>(v.experts.size());
    v.dropped_tokens += passed - routed;
  });
  if (!outcomes.front().load.empty()) unreported_rows_ = 0;
  last_exchange_us_ = stepper.exchange_us();
}

void Engine::publish() {
  if (events_.empty()) return;
  if (on_events) on_events(std::move(events_));
  events_.clear();
}

// Nothing to do: sleeps until somebody comes, the other ranks a little at a time.
void Engine::idle(const Bootstrap& ranks) {
  idle_us_ = std::clamp<std::int64_t>(2 * idle_us_, 50, kLongestIdleUs);
  if (plan_.world > 1) {
    std::string bytes =
        to_bytes(StepOrder{.kind = OrderKind::Idle, .idle_us = idle_us_, .ranks = {}});
    ranks.broadcast(bytes);
  }
  std::unique_lock lock(mutex_);
  const auto longest = std::chrono::microseconds(plan_.world > 1 ? idle_us_ : 100000);
  arrived_.wait_for(lock, longest, [&] { return !commands_.empty() || draining_.load(); });
}

void Engine::lead(Stepper& stepper, const Bootstrap& ranks,
                  const std::function<bool()>& asked_to_stop) {
  for (;;) {
    if (!draining_ && asked_to_stop()) drain();
    take_commands();
    expire();
    if (draining_) {
      if (drain_began_us_ < 0) drain_began_us_ = now_us();
      if (now_us() - drain_began_us_ > options_.drain_limit_us) {
        end_all(Finish::Shutdown, "the server is shutting down");
      }
      if (active_.empty()) break;
    }
    publish();
    const auto step = scheduler_.next(now_us());
    if (step) {
      idle_us_ = 0;
      step_once(*step, stepper, ranks);
    } else {
      metrics_.update([](Metrics::Values& v) { v.running = v.waiting = v.pages_used = 0; });
      idle(ranks);
    }
  }
  publish();
  if (plan_.world > 1) {
    std::string bytes = to_bytes(StepOrder{.kind = OrderKind::Stop, .ranks = {}});
    ranks.broadcast(bytes);
  }
}

void Engine::run(Stepper& stepper, const Bootstrap& ranks,
                 const std::function<bool()>& asked_to_stop) {
  try {
    lead(stepper, ranks, asked_to_stop);
  } catch (const std::exception& error) {
    drain();
    take_commands();
    fail_all(fmt::format("a step failed, the server ends: {}", error.what()));
    throw;
  }
}

}  // namespace imhotep::executor
