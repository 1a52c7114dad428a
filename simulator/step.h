#pragma once
// The simulator: what a step of a plan costs on a cluster, with the profile that was measured
// there or without one. The public face for planner and command line.

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/program/build.h"
#include "core/spec/cluster.h"
#include "core/spec/plan.h"
#include "profiles/profile.h"
#include "simulator/cost/kernels.h"
#include "simulator/engine/schedule.h"
#include "simulator/error_budget.h"
#include "simulator/loaded_program.h"
#include "simulator/network/network.h"
#include "simulator/styles/style.h"

namespace imhotep::simulator {

// All occurrences of one operation in a step.
struct OperationTotal {
  std::string name;
  program::Pass pass = program::Pass::Forward;
  double count = 0;
  double time_us = 0, low_us = 0, high_us = 0;
  Source source = Source::Measured;  // the least sure of them
};

struct ProgramPrice {
  std::vector<Cost> costs;  // by operation
  Timeline timeline;
  double exposed_us = 0;  // communication that nothing hides
  ErrorBudget errors;     // of the critical path
  [[nodiscard]] Estimate time_us() const { return errors.around(timeline.makespan_us); }
};

struct StepPrice {
  Estimate time_us;
  double overhead_us = 0;  // the part that belongs to no operation
  double exposed_us = 0;
  std::vector<OperationTotal> operations;  // in order of first appearance
  program::MemoryUse memory;               // fullest rank
  double tokens = 0;                       // a step, all ranks
  double tokens_per_s = 0;                 // all ranks
  double cost_per_mtoken = 0;              // 0: price unknown
};

// Remembers prices of single operations; keep one and ask it often. Not for several threads, but
// a copy is: copies share the tables and remember by themselves.
class Simulator {
 public:
  explicit Simulator(ClusterSpec cluster, std::optional<profiles::Profile> profile = std::nullopt,
                     StyleConstants styles = {});

  // The same tables for another cluster of these devices, without building them anew. What was
  // remembered of kernels stays; of links, where they are the same.
  // Requires: the same device.
  [[nodiscard]] Simulator on(ClusterSpec cluster) const;
  // Takes over what `other` remembers of kernels. Requires: one is a copy of the other, or made
  // by `on`.
  void learn(const Simulator& other);

  // One operation in the group `layout`; `busy` ranks of a node work at once. `dtype` is that of
  // the program, for communication that of the buffer that moves.
  [[nodiscard]] Cost price(const program::Shape& shape, Dtype dtype, const GroupLayout& layout,
                           int busy) const;
  // A program of the plan's, for the rank that routing loads most.
  [[nodiscard]] ProgramPrice price(const program::Program& program, const Plan& plan) const;
  // Of that the timeline alone, for those who price thousands.
  [[nodiscard]] Timeline timeline(const program::Program& program, const Plan& plan) const;

  // A step of a phase that simulator/step_programs.h lists. Throws: as that.
  [[nodiscard]] StepPrice step(const Plan& plan, const std::string& phase) const;
  // One optimizer step: all micro-batches and the update.
  [[nodiscard]] StepPrice training_step(const Plan& plan) const;
  // Every sequence advances by one token.
  [[nodiscard]] StepPrice decode_step(const Plan& plan) const;
  // The whole prompt of one sequence a data rank, chunk by chunk.
  [[nodiscard]] StepPrice prefill(const Plan& plan) const;
  // What a plan file carries: training step, or decode step and prompt.
  [[nodiscard]] Prediction predict(const Plan& plan) const;

  [[nodiscard]] const ClusterSpec& cluster() const { return cluster_; }
  [[nodiscard]] const std::string& profile_name() const { return profile_name_; }
  [[nodiscard]] const std::string& profile_hash() const { return profile_hash_; }
  [[nodiscard]] const profiles::Overheads& overheads() const { return overheads_; }

 private:
  struct Question {
    profiles::Description operation;
    GroupLayout layout;
    int busy = 1;
    Dtype dtype = Dtype::F32;
    bool operator==(const Question&) const = default;
  };
  struct QuestionHash {
    std::size_t operator()(const Question& question) const;
  };

  using Answers = std::unordered_map<Question, Cost, QuestionHash>;
  struct Known {  // of kernels only
    Answers answers;
    Loads loads;
  };
  [[nodiscard]] Cost answer(const Question& question) const;
  [[nodiscard]] std::vector<Cost> costs(const program::Program& program, const Plan& plan) const;
  [[nodiscard]] Timeline timeline(const program::Program& program,
                                  const std::vector<Cost>& costs) const;
  void finish(StepPrice& step, const ErrorBudget& errors, const Plan& plan) const;

  ClusterSpec cluster_;
  std::string profile_name_, profile_hash_;
  profiles::Overheads overheads_;
  StyleConstants styles_;
  std::shared_ptr<const KernelPrices> kernels_;
  CollectivePrices collectives_;
  std::shared_ptr<const Known> known_;  // shared by copies; what this one found lies beside it
  mutable Answers answers_;
  mutable LoadMemory loads_;
};

}  // namespace imhotep::simulator
