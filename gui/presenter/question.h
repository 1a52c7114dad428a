#pragma once
// What the window asks the planner: everything that a form can change, with one field list for
// forms, sessions and undo.

#include <QString>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/dtype.h"
#include "core/spec/cluster.h"
#include "core/spec/plan.h"
#include "planner/objective/objective.h"
#include "planner/space/request.h"

namespace imhotep::gui {

// Plans beyond a limit stay in the table, marked. 0: no limit.
struct Limits {
  double time_us = 0, prompt_us = 0;
  double tokens_per_s = 0;
  double memory_bytes = 0;
  double cost_per_mtoken = 0;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("time_us", s.time_us,
          {.help = "step or decode step, at most; 0: no limit", .optional = true, .minimum = 0});
    visit("prompt_us", s.prompt_us,
          {.help = "prompt, at most; 0: no limit", .optional = true, .minimum = 0});
    visit("tokens_per_s", s.tokens_per_s,
          {.help = "tokens a second, at least; 0: no limit", .optional = true, .minimum = 0});
    visit("memory_bytes", s.memory_bytes,
          {.help = "fullest rank, at most; 0: no limit", .optional = true, .minimum = 0});
    visit("cost_per_mtoken", s.cost_per_mtoken,
          {.help = "money for a million tokens, at most; 0: no limit",
           .optional = true,
           .minimum = 0});
  }
  bool operator==(const Limits&) const = default;
};

struct Goal {
  int gpus = 0;
  Dtype dtype = Dtype::Bf16;
  planner::Objective objective = planner::Objective::Throughput;
  std::string fix, profile;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("gpus", s.gpus,
          {.help = "devices, or ranks on processors; 0: the best count",
           .optional = true,
           .minimum = 0,
           .maximum = 1 << 20});
    visit("dtype", s.dtype, {.help = "weights and activations", .optional = true});
    visit("objective", s.objective, {.help = "what is best", .optional = true});
    visit("fix", s.fix, {.help = "degrees by hand: tensor=2,expert=4", .optional = true});
    visit("profile", s.profile,
          {.help = "a profile's name or file; none: roofline; empty: the best one",
           .optional = true});
  }
  bool operator==(const Goal&) const = default;
};

struct Question {
  ModelSpec model;
  ClusterSpec cluster;
  Workload workload;
  Goal goal;
  Limits limits;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("model", s.model, {.help = "what is trained or served"});
    visit("cluster", s.cluster, {.help = "where it runs"});
    visit("workload", s.workload, {.help = "what is asked of it"});
    visit("goal", s.goal, {.help = "what is best, and what is decided already"});
    visit("limits", s.limits, {.help = "what a plan must keep to", .optional = true});
  }
};

// The defaults of `imhotep plan`: batch, sequence, prompt, dtype and objective follow from model,
// cluster and kind of work.
[[nodiscard]] Question default_question(const ModelSpec& model, const ClusterSpec& cluster,
                                        WorkloadKind kind);
// The question a plan answers: its model, workload, cluster and number of devices.
// Throws: Error(Input) when its cluster is neither in the catalogue nor a file.
[[nodiscard]] Question question_of(const Plan& plan);
[[nodiscard]] Question sample_question();

// Throws: Error(Input) as the command line does, also where two parts contradict each other.
[[nodiscard]] planner::Request request_of(const Question& question);

[[nodiscard]] std::string question_text(const Question& question);  // JSON
[[nodiscard]] Question parse_question(const std::string& text, const std::string& name);

// The command that asks the same, and the files it needs beside the catalogue: (name, text).
struct RepeatedCommand {
  QString command;
  std::vector<std::pair<QString, std::string>> files;
};
[[nodiscard]] RepeatedCommand command_of(const Question& question);

// "training, 512 sequences of 2048 tokens a step".
[[nodiscard]] QString describe(const Workload& workload);

}  // namespace imhotep::gui
