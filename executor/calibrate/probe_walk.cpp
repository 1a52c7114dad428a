#include "executor/calibrate/probe_walk.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/base/random.h"
#include "executor/calibrate/measured_load.h"
#include "executor/generate/generator.h"
#include "executor/runtime/step_times.h"
#include "executor/train/trainer.h"

namespace imhotep::executor {
namespace {

using Clock = std::chrono::steady_clock;
using Reading = ProbeReadings::Reading;

std::vector<double> times_of(const std::vector<Reading>& walk) {
  std::vector<double> times;
  for (const Reading& reading : walk) times.push_back(reading.time_us);
  return times;
}

double sum(const std::vector<double>& times) {
  return std::accumulate(times.begin(), times.end(), 0.0);
}

// Readings of the walks of one program.
struct Walks {
  std::vector<std::vector<Reading>> walks;
  std::vector<double> alone_us;  // the same without an observer

  void put_into(std::vector<Reading>& all) const {
    std::vector<double> sums;
    for (const auto& walk : walks) sums.push_back(sum(times_of(walk)));
    for (const auto& walk : walks) {
      const double excess = alone_us.empty() ? 0 : median(sums) - median(alone_us);
      const std::vector<double> times = without_observer(times_of(walk), excess);
      for (std::size_t i = 0; i < walk.size(); ++i) {
        all.push_back(walk[i]);
        all.back().time_us = times[i];
      }
    }
  }
};

class Walk {
 public:
  Walk(const Plan& plan, CommunicatorPool& pool, const WalkOptions& options)
      : plan_(plan), pool_(pool), options_(options), start_(Clock::now()) {}

  ProbeReadings train() {
    Trainer trainer(plan_, Rank(0), pool_, {.initialize = {.seed = 7}});
    trainer.initialize();
    const auto batch = [&](std::int64_t first, auto inputs, auto targets) {
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const auto word = hash(11, static_cast<std::uint64_t>(first), i);
        inputs[i] = static_cast<std::int32_t>(word % plan_.model.vocab);
        targets[i] = static_cast<std::int32_t>((word >> 20) % plan_.model.vocab);
      }
    };
    std::int64_t step = 0;
    trainer.step(step++, batch);
    if (on_gpu()) {
      for (std::int64_t i = 0; more(i); ++i) {
        walks_[0].alone_us.push_back(trainer.step(step++, batch).time_us);
      }
    }
    observe(trainer.runner());
    for (std::int64_t i = 0; more(i); ++i) {
      end_step(trainer.step(step++, batch).time_us);
    }
    return std::move(collect());
  }

  ProbeReadings generate() {
    Generator generator(plan_, Rank(0), pool_, 1);
    initialize_weights(plan_, generator.runner(), {.seed = 7});
    std::vector<GenerationRequest> requests(plan_.workload.global_batch);
    for (std::size_t r = 0; r < requests.size(); ++r) {
      requests[r].max_tokens = plan_.workload.output;
      for (std::int64_t t = 0; t < plan_.workload.prompt; ++t) {
        requests[r].prompt.push_back(static_cast<std::int32_t>(hash(13, r, t) % plan_.model.vocab));
      }
    }
    const auto alone = [](bool done) { return done; };
    if (on_gpu()) {
      // Inputs are still in place when a step has just run: replays repeat it.
      generator.on_step = [&](int program, auto) {
        if (!walks_[program].alone_us.empty()) return;
        walks_[program].alone_us =
            generator.runner().time_us(program, {}, {.repeats = 10, .cold = false});
      };
    }
    generator.generate(requests, alone);
    if (on_gpu()) {
      generator.on_step = {};
      generator.generate(requests, alone);
      const double step_us = median(generator.times().decode_step_us);
      result_.remainders.push_back(
          {.time_us = std::max(0.0, step_us - median(walks_[kDecode].alone_us))});
    }
    observe(generator.runner());
    generator.on_step = [&](int program, auto) { end_walk(program); };
    for (std::int64_t i = 0; more(i); ++i) generator.generate(requests, alone);
    return std::move(collect());
  }

 private:
  static constexpr int kDecode = 1;  // programs of a generator: prompt, decode
  [[nodiscard]] bool on_gpu() const { return plan_.device == DeviceKind::Cuda; }
  [[nodiscard]] bool more(std::int64_t walks) const {
    if (walks >= options_.repeats) return false;
    const std::chrono::duration<double> spent = Clock::now() - start_;
    return options_.most_s <= 0 || walks < 2 || spent.count() < options_.most_s;
  }

  void observe(Runner& runner) {
    runner_ = &runner;
    runner.observe([this](const program::Operation& operation, double time_us) {
      current_.push_back({.operation = operation, .dtype = plan_.dtype, .time_us = time_us});
    });
  }
  void end_walk(int program) {
    if (on_gpu()) note_load(plan_, *runner_, current_);
    walks_[program].walks.push_back(std::move(current_));
    current_.clear();
  }
  // On a CPU the clock runs between operations; on a GPU the steps without events have told.
  void end_step(double time_us) {
    double accounted = 0;
    for (const Reading& reading : current_) accounted += reading.time_us;
    if (on_gpu()) {
      const double host_us = median(walks_[0].alone_us) - accounted;
      result_.remainders.push_back({.time_us = std::max(0.0, host_us)});
    } else {
      result_.remainders.push_back(
          {.operations = static_cast<double>(current_.size()), .time_us = time_us - accounted});
    }
    end_walk(0);
  }
  ProbeReadings& collect() {
    for (const Walks& walks : walks_) walks.put_into(result_.readings);
    return result_;
  }

  const Plan& plan_;
  CommunicatorPool& pool_;
  const WalkOptions& options_;
  Clock::time_point start_;
  const Runner* runner_ = nullptr;  // that is observed
  Walks walks_[2];
  std::vector<Reading> current_;
  ProbeReadings result_;
};

}  // namespace

double observer_cost(std::span<const double> readings_us, double excess_us) {
  std::vector<double> most;  // of each reading, the shortest first
  for (const double reading : readings_us) most.push_back(kMostObserved * reading);
  std::sort(most.begin(), most.end());
  double left = std::max(0.0, excess_us);
  for (std::size_t i = 0; i < most.size(); ++i) {
    const double each = left / static_cast<double>(most.size() - i);
    if (each <= most[i]) return each;
    left -= most[i];
  }
  return most.empty() ? 0 : most.back();
}

std::vector<double> without_observer(std::vector<double> readings_us, double excess_us) {
  const double cost = std::min(observer_cost(readings_us, excess_us), kMostEventUs);
  double left = std::max(0.0, excess_us);
  for (double& reading : readings_us) {
    const double taken = std::min(cost, kMostObserved * reading);
    reading -= taken;
    left -= taken;
  }
  const double kept = sum(readings_us);
  if (kept <= 0 || left <= 0) return readings_us;
  const double part = std::max(1 - left / kept, 1 - kMostObserved);
  for (double& reading : readings_us) reading *= part;
  return readings_us;
}

void ProbeReadings::add_to(Samples& samples) const {
  for (const Reading& reading : readings) {
    if (reading.known_load) samples.add(reading.operation, reading.dtype, reading.time_us);
  }
}

ProbeReadings walk_probe(const Plan& plan, CommunicatorPool& pool, const WalkOptions& options) {
  Walk walk(plan, pool, options);
  return plan.workload.kind == WorkloadKind::Training ? walk.train() : walk.generate();
}

}  // namespace imhotep::executor
