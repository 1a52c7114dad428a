#pragma once
// Walks the programs of one probe several times and keeps what every operation took.
//
// Between two events of a GPU lies an operation and a little of the events' own cost, which also
// keeps one kernel from starting while the last one drains. So programs of a GPU are timed without
// events too, and the difference is taken off the operations: evenly as far as an event can cost,
// the rest (a clock that was lower under observation) in proportion. Together they then take what
// the program takes.

#include <functional>
#include <span>

#include "executor/calibrate/samples.h"
#include "executor/comm/communicator_pool.h"

namespace imhotep::executor {

// What the clock saw beside operations, with the number of operations: the overheads follow.
struct StepRemainder {
  double operations = 0, time_us = 0;
};

struct ProbeReadings {
  struct Reading {
    program::Operation operation;
    Dtype dtype = Dtype::F32;
    double time_us = 0;
    bool known_load = true;  // else only its part in the walk counts
  };
  std::vector<Reading> readings;
  std::vector<StepRemainder> remainders;
  void add_to(Samples& samples) const;
};

struct WalkOptions {
  std::int64_t repeats = 4;
  double most_s = 0;  // no walk begins later, once there were two; 0: no limit
};

// Throws: as Trainer and Generator.
[[nodiscard]] ProbeReadings walk_probe(const Plan& plan, CommunicatorPool& pool,
                                       const WalkOptions& options);

// What is taken off each reading of a walk, so that together they lose `excess_us`; of no reading
// more than kMostObserved is taken, so short ones lose less and the others more. Never negative.
inline constexpr double kMostObserved = 0.75;
[[nodiscard]] double observer_cost(std::span<const double> readings_us, double excess_us);

// Readings without what observing cost. An event costs no more than kMostEventUs.
inline constexpr double kMostEventUs = 2.5;
[[nodiscard]] std::vector<double> without_observer(std::vector<double> readings_us,
                                                   double excess_us);

}  // namespace imhotep::executor
