#include "executor/calibrate/calibrate.h"

#include <Eigen/Dense>
#include <chrono>

#include "core/base/random.h"
#include "executor/calibrate/collectives.h"
#include "executor/calibrate/samples.h"
#include "executor/generate/generator.h"
#include "executor/train/trainer.h"

namespace imhotep::executor {
namespace {

// What the clock saw beside operations, with the number of operations: the overheads follow.
struct StepRemainder {
  double operations = 0, time_us = 0;
};

class Calibration {
 public:
  Calibration(CommunicatorPool& pool, std::int64_t repeats) : pool_(pool), repeats_(repeats) {}

  void probe(const Plan& plan) {
    if (plan.workload.kind == WorkloadKind::Training) {
      train(plan);
    } else {
      generate(plan);
    }
  }

  [[nodiscard]] const Samples& samples() const { return samples_; }

  // Least squares of remainder = step + operation · count, neither below zero.
  [[nodiscard]] profiles::Overheads overheads() const {
    if (remainders_.size() < 2) return {};
    Eigen::MatrixX2d a(remainders_.size(), 2);
    Eigen::VectorXd b(remainders_.size());
    for (std::size_t i = 0; i < remainders_.size(); ++i) {
      a(i, 0) = remainders_[i].operations;
      a(i, 1) = 1;
      b(i) = remainders_[i].time_us;
    }
    const Eigen::Vector2d x = a.colPivHouseholderQr().solve(b);
    return {.operation_us = std::max(x[0], 0.0), .step_us = std::max(x[1], 0.0)};
  }

 private:
  void observe(Runner& runner, Dtype dtype) {
    runner.observe([this, dtype](const program::Operation& operation, double time_us) {
      samples_.add(operation, dtype, time_us);
      accounted_us_ += time_us;
      operations_ += 1;
    });
  }

  void train(const Plan& plan) {
    Trainer trainer(plan, Rank(0), pool_, {.initialize = {.seed = 7}});
    trainer.initialize();
    const auto batch = [&](std::int64_t first, auto inputs, auto targets) {
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const auto word = hash(11, static_cast<std::uint64_t>(first), i);
        inputs[i] = static_cast<std::int32_t>(word % plan.model.vocab);
        targets[i] = static_cast<std::int32_t>((word >> 20) % plan.model.vocab);
      }
    };
    for (std::int64_t step = 0; step <= repeats_; ++step) {
      if (step == 1) observe(trainer.runner(), plan.dtype);
      accounted_us_ = operations_ = 0;
      const StepResult result = trainer.step(step, batch);
      if (step > 0) {
        remainders_.push_back(
            {.operations = operations_, .time_us = result.time_us - accounted_us_});
      }
    }
  }

  void generate(const Plan& plan) {
    Generator generator(plan, Rank(0), pool_, 1);
    initialize_weights(plan, generator.runner(), {.seed = 7});
    std::vector<GenerationRequest> requests(plan.workload.global_batch);
    for (std::size_t r = 0; r < requests.size(); ++r) {
      requests[r].max_tokens = plan.workload.output;
      for (std::int64_t t = 0; t < plan.workload.prompt; ++t) {
        requests[r].prompt.push_back(static_cast<std::int32_t>(hash(13, r, t) % plan.model.vocab));
      }
    }
    const auto alone = [](bool done) { return done; };
    generator.generate(requests, alone);
    observe(generator.runner(), plan.dtype);
    for (std::int64_t i = 0; i < repeats_; ++i) generator.generate(requests, alone);
  }

  CommunicatorPool& pool_;
  std::int64_t repeats_;
  Samples samples_;
  std::vector<StepRemainder> remainders_;
  double accounted_us_ = 0, operations_ = 0;
};

}  // namespace

profiles::Profile calibrate(const Bootstrap& bootstrap, CommunicatorPool& pool,
                            const CalibrationOptions& options) {
  const bool collectives = options.collectives && bootstrap.world() > 1;
  const std::int64_t total = static_cast<std::int64_t>(options.probes.size()) +
                             (collectives ? collective_steps(bootstrap.world()) : 0);
  std::int64_t done = 0;
  const auto advance = [&] {
    ++done;
    if (options.progress && bootstrap.rank() == 0) options.progress(done, total);
  };
  Calibration calibration(pool, options.repeats);
  for (const Plan& plan : options.probes) {
    bootstrap.barrier();
    calibration.probe(plan);
    advance();
  }
  profiles::Profile profile;
  profile.ranks = bootstrap.world();
  profile.tables = calibration.samples().tables(bootstrap.world());
  profile.overheads = calibration.overheads();
  if (collectives) profile.collectives = time_collectives(bootstrap, pool, advance);
  return profile;
}

}  // namespace imhotep::executor
