#pragma once
// The server's core on rank 0, and the loop of all other ranks: takes requests from any thread,
// asks the scheduler for steps, has all ranks run them and reports news of each request.
//
// run() owns the thread it is called on, the one that started MPI. Nothing here knows of HTTP.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "core/schedule/scheduler.h"
#include "executor/comm/bootstrap.h"
#include "executor/serve/metrics.h"
#include "executor/serve/request.h"
#include "executor/serve/stepper.h"
#include "executor/serve/vocabulary.h"

namespace imhotep::executor {

struct EngineOptions {
  std::int64_t max_waiting = 256;
  double queue_limit_us = 60e6;     // waiting longer ends a request; 0: no limit
  double request_limit_us = 600e6;  // from arrival to the last token; 0: no limit
  double drain_limit_us = 30e6;     // after a wish to stop, for what has begun
  double aging_us = 10e6;
};

class Engine {
 public:
  // All news of one step at once, on the thread of run(). Set before run().
  using OnEvents = std::function<void(std::vector<ServeEvent>)>;

  Engine(const Plan& plan, const ServeShape& shape, const Vocabulary& vocabulary,
         const EngineOptions& options, Metrics& metrics);
  ~Engine();

  // ---- any thread
  // Why a request can never run, or an empty text.
  [[nodiscard]] std::string problem(std::int64_t prompt, std::int64_t max_tokens) const;
  // All of them or none. No event comes for a refused request.
  [[nodiscard]] Refusal submit(std::vector<ServeRequest> requests);
  // No further event comes for it, save those on their way.
  void cancel(schedule::RequestId id);
  // Refuse what comes, finish what has begun, then return from run().
  void drain();
  [[nodiscard]] bool draining() const { return draining_; }
  [[nodiscard]] double now_us() const;
  // Seconds after which trying again makes sense, when requests are refused.
  [[nodiscard]] int retry_after_s() const;

  [[nodiscard]] const schedule::Limits& limits() const { return judge_.limits(); }
  [[nodiscard]] std::int64_t max_waiting() const { return options_.max_waiting; }
  [[nodiscard]] double queue_limit_us() const { return options_.queue_limit_us; }

  OnEvents on_events;

  // Collective, until drained: rank 0 leads, the others follow(). `asked_to_stop` is asked between
  // steps; the first true begins the drain. Throws: what a step throws, after every request that is
  // under way was told of it.
  void run(Stepper& stepper, const Bootstrap& ranks, const std::function<bool()>& asked_to_stop);
  static void follow(Stepper& stepper, const Bootstrap& ranks);

 private:
  struct Active;
  struct Command {
    ServeRequest request;
    double arrival_us = 0;
    bool cancels = false;
  };

  void take_commands();
  void begin(ServeRequest request, double arrival_us);
  void expire();
  void end_all(Finish finish, const std::string& reason);
  void fail_all(const std::string& reason);
  void lead(Stepper& stepper, const Bootstrap& ranks, const std::function<bool()>& asked_to_stop);
  void end(schedule::RequestId id, Finish finish, const std::string& reason);
  [[nodiscard]] StepOrder order_of(const schedule::Step& step);
  void step_once(const schedule::Step& step, Stepper& stepper, const Bootstrap& ranks);
  void note_steps(const schedule::Step& step, double began_us, Stepper& stepper,
                  const std::vector<StepOutcome>& outcomes);
  void take(const std::vector<StepOutcome>& outcomes, double now);
  void finish(Active& active, ServeEvent& event, Finish why, double now);
  void idle(const Bootstrap& ranks);
  void publish();

  Plan plan_;
  const Vocabulary& vocabulary_;
  EngineOptions options_;
  Metrics& metrics_;
  const schedule::Scheduler judge_;  // never runs: answers problem() on any thread
  schedule::Scheduler scheduler_;
  std::map<schedule::RequestId, std::unique_ptr<Active>> active_;
  std::vector<ServeEvent> events_;
  std::int64_t idle_us_ = 0, unreported_rows_ = 0;
  double drain_began_us_ = -1, last_exchange_us_ = 0, expired_us_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Command> commands_;
  std::int64_t open_waiting_ = 0;  // accepted and not yet given a place
  std::atomic<bool> draining_ = false;
  std::atomic<double> completions_per_us_ = 0;
};

}  // namespace imhotep::executor
