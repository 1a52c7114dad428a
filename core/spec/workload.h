#pragma once
// What is asked of the system: a training run or generation, and how tokens are routed.

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/enum_names.h"
#include "core/base/fields.h"

namespace imhotep {

enum class WorkloadKind : std::uint8_t { Training, Generation };
enum class RoutingKind : std::uint8_t { Uniform, Zipf, Measured };

struct OptimizerSpec {
  double learning_rate = 3e-4, min_learning_rate = 1e-6;
  std::int64_t warmup_steps = 100, decay_steps = 0;  // 0: the length of the run
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1, clip = 1.0;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("learning_rate", s.learning_rate, {.optional = true, .minimum = 0});
    visit("min_learning_rate", s.min_learning_rate, {.optional = true, .minimum = 0});
    visit("warmup_steps", s.warmup_steps, {.optional = true, .minimum = 0});
    visit("decay_steps", s.decay_steps,
          {.help = "cosine; 0: the run's length", .optional = true, .minimum = 0});
    visit("beta1", s.beta1, {.optional = true, .minimum = 0, .maximum = 1});
    visit("beta2", s.beta2, {.optional = true, .minimum = 0, .maximum = 1});
    visit("epsilon", s.epsilon, {.optional = true, .minimum = 0});
    visit("weight_decay", s.weight_decay, {.optional = true, .minimum = 0});
    visit("clip", s.clip, {.help = "global gradient norm; 0: off", .optional = true, .minimum = 0});
  }
};

struct RoutingSpec {
  RoutingKind kind = RoutingKind::Uniform;
  double skew = 0;  // Zipf exponent
  // Measured: per MoE layer, the share of routes each expert receives.
  std::vector<std::vector<double>> histograms;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("kind", s.kind, {.help = "uniform, zipf or measured"});
    visit("skew", s.skew, {.help = "Zipf exponent", .optional = true, .minimum = 0});
    visit("histograms", s.histograms, {.help = "shares per layer and expert", .optional = true});
  }
};

struct Workload {
  WorkloadKind kind = WorkloadKind::Training;
  std::int64_t global_batch = 8;  // training: sequences a step; generation: sequences at once
  std::int64_t sequence = 256;    // training: tokens a sequence
  std::int64_t prompt = 128;      // generation
  std::int64_t output = 128;
  OptimizerSpec optimizer;
  RoutingSpec routing;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("kind", s.kind, {.help = "training or generation"});
    visit("global_batch", s.global_batch, {.help = "sequences a step", .minimum = 1});
    visit("sequence", s.sequence,
          {.help = "tokens a training sequence", .optional = true, .minimum = 1});
    visit("prompt", s.prompt, {.help = "tokens of a prompt", .optional = true, .minimum = 1});
    visit("output", s.output, {.help = "tokens generated", .optional = true, .minimum = 1});
    visit("optimizer", s.optimizer, {.help = "AdamW", .optional = true});
    visit("routing", s.routing, {.help = "how tokens spread over experts", .optional = true});
  }
};

inline constexpr const char* kWorkloadSchema = "imhotep.workload/1";

[[nodiscard]] Workload read_workload(const std::string& file);  // Throws: Error(Input)
void write_workload(const Workload& workload, const std::string& file);

}  // namespace imhotep

IMHOTEP_ENUM_NAMES(imhotep::WorkloadKind, {imhotep::WorkloadKind::Training, "training"},
                   {imhotep::WorkloadKind::Generation, "generation"})
IMHOTEP_ENUM_NAMES(imhotep::RoutingKind, {imhotep::RoutingKind::Uniform, "uniform"},
                   {imhotep::RoutingKind::Zipf, "zipf"},
                   {imhotep::RoutingKind::Measured, "measured"})
