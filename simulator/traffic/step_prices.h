#pragma once
// What a step of a server costs: programs of its batch buckets, priced by the simulator for the
// keys that its rows attend to.

#include <map>
#include <tuple>
#include <vector>

#include "simulator/step.h"
#include "simulator/traffic/traffic.h"

namespace imhotep::simulator {

class StepPrices {
 public:
  // `simulator` and `plan` outlive the prices. `limits`: as the server was started; its sequences,
  // pages, context and buckets shape the programs. `host_us`: time of a step outside the program
  // (scheduling, messages, answers), beside the profile's own.
  StepPrices(const Simulator& simulator, const Plan& plan, schedule::Limits limits,
             double host_us = 0)
      : simulator_(simulator), plan_(plan), limits_(std::move(limits)), host_us_(host_us) {}

  // What steps of a bucket touched in a real server, in the mean; without it, tokens are taken to
  // choose among all experts alike. Zero steps: not seen.
  struct Touched {
    double steps = 0;
    double experts = 0;  // of all MoE layers, a step
  };
  void set_touched(std::vector<Touched> buckets) { touched_ = std::move(buckets); }

  [[nodiscard]] double time_us(const StepLoad& load);

 private:
  [[nodiscard]] double price(int bucket, double rows, double keys_a_row) const;
  // `choosing`: rows that choose experts by the program.
  [[nodiscard]] RoutingSpec routing(int bucket, double rows, double choosing) const;

  const Simulator& simulator_;
  const Plan& plan_;
  schedule::Limits limits_;
  double host_us_;
  std::vector<Touched> touched_;
  std::map<std::tuple<int, int, int>, double> known_;  // by bucket, class of rows and of context
};

}  // namespace imhotep::simulator
