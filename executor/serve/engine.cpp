// Requests on their way in and out; the steps are in engine_steps.cpp.

#include "executor/serve/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "executor/serve/engine_active.h"

namespace imhotep::executor {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kExpireEveryUs = 10000;

schedule::Limits limits_of(const Plan& plan, const ServeShape& shape,
                           const EngineOptions& options) {
  schedule::Limits limits = serve_limits(plan, shape);
  limits.max_waiting = INT64_MAX;  // the engine counts those that wait itself, on any thread
  limits.aging_us = options.aging_us;
  return limits;
}

}  // namespace

const char* reason_name(Finish finish) {
  switch (finish) {
    case Finish::Stop:
      return "stop";
    case Finish::Length:
      return "length";
    case Finish::Timeout:
      return "timeout";
    case Finish::Shutdown:
      return "shutdown";
    case Finish::Failed:
      return "error";
    case Finish::None:
      break;
  }
  return "abort";
}

Engine::Engine(const Plan& plan, const ServeShape& shape, const Vocabulary& vocabulary,
               const EngineOptions& options, Metrics& metrics)
    : plan_(plan),
      vocabulary_(vocabulary),
      options_(options),
      metrics_(metrics),
      judge_(limits_of(plan, shape, options)),
      scheduler_(limits_of(plan, shape, options)) {
  metrics_.update([&](Metrics::Values& v) {
    v.pages = shape.pages * plan.data;
    for (int layer = 0; layer < plan.model.layers; ++layer) {
      const int experts = plan.model.experts_at(layer);
      if (experts > 0)
        v.experts.push_back({.layer = layer, .tokens = std::vector<double>(experts)});
    }
  });
}

Engine::~Engine() = default;

double Engine::now_us() const {
  return std::chrono::duration<double, std::micro>(Clock::now().time_since_epoch()).count();
}

std::string Engine::problem(std::int64_t prompt, std::int64_t max_tokens) const {
  return judge_.problem({.prompt = prompt, .output = max_tokens});
}

Refusal Engine::submit(std::vector<ServeRequest> requests) {
  const double now = now_us();
  const char* refused = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto count = static_cast<std::int64_t>(requests.size());
    if (draining_) {
      refused = "draining";
    } else if (open_waiting_ + count > options_.max_waiting) {
      refused = "queue_full";
    } else {
      open_waiting_ += count;
      for (ServeRequest& request : requests) {
        commands_.push_back({.request = std::move(request), .arrival_us = now});
      }
    }
  }
  if (refused != nullptr) {
    metrics_.update([&](Metrics::Values& v) { ++v.refused[refused]; });
    return draining_ ? Refusal::Draining : Refusal::Full;
  }
  arrived_.notify_one();
  return Refusal::None;
}

void Engine::cancel(schedule::RequestId id) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back({.request = {.id = id, .prompt = {}, .stop = {}}, .cancels = true});
  }
  arrived_.notify_one();
}

void Engine::drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  arrived_.notify_one();
}

int Engine::retry_after_s() const {
  const double rate = completions_per_us_;
  const std::lock_guard lock(mutex_);
  const double wait_us = rate > 0 ? static_cast<double>(open_waiting_) / rate : 1e6;
  return static_cast<int>(std::clamp(std::ceil(wait_us / 1e6), 1.0, 60.0));
}

void Engine::take_commands() {
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) {
    if (!command.cancels) {
      begin(std::move(command.request), command.arrival_us);
    } else if (active_.count(command.request.id) > 0) {
      end(command.request.id, Finish::None, {});
    }
  }
}

void Engine::begin(ServeRequest request, double arrival_us) {
  const schedule::RequestId id = request.id;
  scheduler_.submit({.id = id,
                     .prompt = static_cast<std::int64_t>(request.prompt.size()),
                     .output = request.max_tokens,
                     .priority = request.priority,
                     .client = request.client,
                     .arrival_us = arrival_us});
  AnswerText text(vocabulary_, request.stop);
  std::vector<std::int32_t> tokens = request.prompt;
  auto active = std::make_unique<Active>(Active{.request = std::move(request),
                                                .tokens = std::move(tokens),
                                                .text = std::move(text),
                                                .arrival_us = arrival_us});
  active_.emplace(id, std::move(active));
}

// Ends a request from outside the step; Finish::None: nobody listens any more.
void Engine::end(schedule::RequestId id, Finish finish, const std::string& reason) {
  scheduler_.cancel(id);
  const auto entry = active_.find(id);
  const bool waited = entry->second->placed_us < 0;
  if (finish != Finish::None) {
    events_.push_back({.id = id,
                       .text = entry->second->text.finish(),
                       .tokens = {},
                       .finish = finish,
                       .generated = entry->second->generated(),
                       .reason = reason,
                       .started = !waited});
  }
  active_.erase(entry);
  metrics_.update([&](Metrics::Values& v) { ++v.ended[reason_name(finish)]; });
  if (waited) {
    const std::lock_guard lock(mutex_);
    --open_waiting_;
  }
}

void Engine::end_all(Finish finish, const std::string& reason) {
  while (!active_.empty()) end(active_.begin()->first, finish, reason);
}

// After a step that failed the scheduler is no longer asked.
void Engine::fail_all(const std::string& reason) {
  for (const auto& [id, active] : active_) {
    const bool told = std::any_of(events_.begin(), events_.end(), [&](const ServeEvent& event) {
      return event.id == id && event.finish != Finish::None;
    });
    if (told) continue;
    events_.push_back({.id = id,
                       .text = {},
                       .tokens = {},
                       .finish = Finish::Failed,
                       .generated = active->generated(),
                       .reason = reason,
                       .started = active->placed_us >= 0});
    metrics_.update([&](Metrics::Values& v) { ++v.ended[reason_name(Finish::Failed)]; });
  }
  active_.clear();
  publish();
}

void Engine::expire() {
  const double now = now_us();
  if (now - expired_us_ < kExpireEveryUs) return;
  expired_us_ = now;
  std::vector<std::pair<schedule::RequestId, const char*>> late;
  for (const auto& [id, active] : active_) {
    const double age = now - active->arrival_us;
    if (active->placed_us < 0 && options_.queue_limit_us > 0 && age > options_.queue_limit_us) {
      late.emplace_back(id, "the request waited too long for a place in the batch");
    } else if (options_.request_limit_us > 0 && age > options_.request_limit_us) {
      late.emplace_back(id, "the request took longer than a request may");
    }
  }
  for (const auto& [id, reason] : late) end(id, Finish::Timeout, reason);
}

}  // namespace imhotep::executor
