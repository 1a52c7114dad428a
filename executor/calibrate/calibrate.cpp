#include "executor/calibrate/calibrate.h"

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <chrono>
#include <optional>

#include "core/base/fail.h"
#include "executor/calibrate/clock_watch.h"
#include "executor/calibrate/collectives.h"
#include "executor/calibrate/machine_rates.h"
#include "executor/calibrate/probe_walk.h"
#include "executor/runtime/step_times.h"

namespace imhotep::executor {
namespace {

using Clock = std::chrono::steady_clock;

// Least squares of remainder = step + operation · count, neither below zero; the median where the
// numbers of operations do not say what one of them costs.
profiles::Overheads overheads_of(const std::vector<StepRemainder>& remainders) {
  if (remainders.empty()) return {};
  const bool alike = std::all_of(remainders.begin(), remainders.end(), [&](const auto& r) {
    return r.operations == remainders.front().operations;
  });
  if (alike) {
    std::vector<double> times;
    for (const StepRemainder& r : remainders) times.push_back(r.time_us);
    return {.step_us = std::max(median(times), 0.0)};
  }
  Eigen::MatrixX2d a(remainders.size(), 2);
  Eigen::VectorXd b(remainders.size());
  for (std::size_t i = 0; i < remainders.size(); ++i) {
    a(i, 0) = remainders[i].operations;
    a(i, 1) = 1;
    b(i) = remainders[i].time_us;
  }
  const Eigen::Vector2d x = a.colPivHouseholderQr().solve(b);
  return {.operation_us = std::max(x[0], 0.0), .step_us = std::max(x[1], 0.0)};
}

class Calibration {
 public:
  Calibration(const Bootstrap& bootstrap, CommunicatorPool& pool, const CalibrationOptions& options)
      : bootstrap_(bootstrap), pool_(pool), options_(options), start_(Clock::now()) {}

  profiles::Profile run() {
    const bool collectives = options_.collectives && bootstrap_.world() > 1;
    total_ = static_cast<std::int64_t>(options_.probes.size()) +
             (collectives ? collective_steps(bootstrap_.world()) : 0);
    watch_.emplace([this] { return quick_rate(on_gpu()); });
    if (!options_.probes.empty()) watch_->slow();
    for (const Plan& plan : options_.probes) {
      const std::string name = probe_name(plan);
      const bool known =
          std::find(options_.known.begin(), options_.known.end(), name) != options_.known.end();
      const bool fitting = known || fits(plan);
      if (!fitting) ++left_out_;
      if (!known && fitting) probe(plan, name);
      advance();
    }
    profiles::Profile profile = so_far();
    if (collectives) {
      profile.collectives =
          time_collectives(bootstrap_, pool_, options_.gpu, [this] { advance(); });
    }
    return profile;
  }

 private:
  [[nodiscard]] bool on_gpu() const {
    return !options_.probes.empty() && options_.probes.front().device == DeviceKind::Cuda;
  }
  void advance() {
    ++done_;
    if (options_.progress && bootstrap_.rank() == 0) options_.progress(done_, total_);
  }
  [[nodiscard]] double spent_s() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }
  // As long as the longest of its kind so far; before one of a kind was seen, nothing.
  double& longest_s(const Plan& plan) {
    return longest_s_[plan.workload.kind == WorkloadKind::Training ? 0 : 1];
  }
  bool fits(const Plan& plan) {
    return options_.budget_s <= 0 ||
           bootstrap_.all_true(spent_s() + longest_s(plan) <= options_.budget_s);
  }

  void probe(const Plan& plan, const std::string& name) {
    bootstrap_.barrier();
    const double before = spent_s();
    ProbeReadings readings;
    try {
      readings = walk_probe(plan, pool_, walk_options());
      if (!bootstrap_.all_true(!watch_->slow())) {
        readings = walk_probe(plan, pool_, walk_options());
        if (watch_->slow()) {
          notes_.push_back(fmt::format("{}: the device ran at {:.0f} % of its best rate", name,
                                       100 * watch_->last_share()));
        }
      }
    } catch (const Error& error) {
      if (bootstrap_.world() > 1) throw;
      notes_.push_back(fmt::format("{}: {}", name, error.what()));
      return;
    }
    longest_s(plan) = std::max(longest_s(plan), spent_s() - before);
    readings.add_to(samples_);
    remainders_.insert(remainders_.end(), readings.remainders.begin(), readings.remainders.end());
    walked_.push_back(name);
    if (options_.keep && bootstrap_.rank() == 0) options_.keep(so_far());
  }
  [[nodiscard]] WalkOptions walk_options() const {
    return {.repeats = options_.repeats, .most_s = options_.budget_s / 10};
  }

  [[nodiscard]] profiles::Profile so_far() const {
    profiles::Profile profile;
    profile.ranks = bootstrap_.world();
    std::int64_t refused = 0;
    profile.tables = samples_.tables(bootstrap_.world(), refused);
    profile.overheads = overheads_of(remainders_);
    profile.probes = walked_;
    profile.notes = notes_;
    if (refused > 0) {
      profile.notes.push_back(fmt::format(
          "{} points refused: their readings spread beyond {:.0f} %", refused, 100 * kNoisySpread));
    }
    if (left_out_ > 0) {
      profile.notes.push_back(fmt::format("{} of {} probes left out: the time was up", left_out_,
                                          options_.probes.size()));
    }
    return profile;
  }

  const Bootstrap& bootstrap_;
  CommunicatorPool& pool_;
  const CalibrationOptions& options_;
  Clock::time_point start_;
  std::optional<ClockWatch> watch_;
  Samples samples_;
  std::vector<StepRemainder> remainders_;
  std::vector<std::string> walked_, notes_;
  std::array<double, 2> longest_s_{};
  std::int64_t done_ = 0, total_ = 0, left_out_ = 0;
};

}  // namespace

profiles::Profile calibrate(const Bootstrap& bootstrap, CommunicatorPool& pool,
                            const CalibrationOptions& options) {
  return Calibration(bootstrap, pool, options).run();
}

}  // namespace imhotep::executor
