#pragma once
// Why a plan takes as long as it does: its time by class of operation, and what binds each class.

#include <string>
#include <vector>

#include "core/program/build.h"
#include "core/spec/plan.h"
#include "simulator/step.h"

namespace imhotep::planner {

enum class OperationClass : std::uint8_t {
  Attention,
  DenseMlp,
  Experts,
  Routing,
  Exchange,          // all-to-all between the ranks that divide the experts
  TensorCollective,  // sums and gathers of activations
  GradientCollective,
  Head,  // embeddings, logits, loss, sampling
  Elementwise,
  Update,
};
inline constexpr int kOperationClasses = 10;
[[nodiscard]] const char* class_name(OperationClass kind);
[[nodiscard]] OperationClass class_of(const program::Operation& operation);

enum class Bound : std::uint8_t { Compute, Memory, Network, Launch };
[[nodiscard]] const char* bound_name(Bound bound);

struct ClassShare {
  OperationClass kind{};
  double time_us = 0;  // of all its operations, hidden or not
  double flops = 0, bytes = 0;
  double bound_us[4] = {0, 0, 0, 0};  // time by Bound
  [[nodiscard]] Bound bound() const;
};

struct Anatomy {
  simulator::StepPrice step;        // training step or decode step
  std::vector<ClassShare> classes;  // longest first, absent ones left out
  double hidden_us = 0;             // communication behind computation
};

[[nodiscard]] Anatomy anatomy(const Plan& plan, const simulator::Simulator& simulator);

// "Experts take 41 % of the step and are bound by memory; ..."
[[nodiscard]] std::string what_binds(const Anatomy& anatomy);

// One operation of two plans, the largest difference first; absent operations have time 0.
struct Difference {
  std::string operation, pass;
  double first_us = 0, second_us = 0;
};
[[nodiscard]] std::vector<Difference> differences(const simulator::StepPrice& first,
                                                  const simulator::StepPrice& second);

}  // namespace imhotep::planner
