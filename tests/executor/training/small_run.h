#pragma once
// Small runs from text to checkpoint on one rank, and what they leave behind.

#include <doctest/doctest.h>

#include <cstdio>
#include <functional>
#include <map>
#include <sstream>
#include <string>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "executor/train/training_run.h"
#include "tests/executor/data/sample_text.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {

namespace fs = std::filesystem;

inline Plan small_plan(double learning_rate = 3e-3) {
  ModelSpec model{.name = "small", .layers = 2, .hidden = 16, .heads = 2, .vocab = 300};
  model.context = 32;
  model.experts = ExpertList::parse("2");
  model.residual = true;
  model.init_std = 0.08;
  Workload workload{.global_batch = 4, .sequence = 16};
  workload.optimizer = {.learning_rate = learning_rate, .warmup_steps = 2, .decay_steps = 6};
  return single_rank_plan(model, workload);
}

// A folder of text and a place for runs.
struct Place {
  Place() { folder.write("text/a.txt", kAlice + random_lines(3, 400)); }
  [[nodiscard]] TrainingRunOptions options(std::int64_t steps, const char* run = "run") const {
    return {.data = folder.path("text"), .out = folder.path(run), .steps = steps};
  }
  [[nodiscard]] std::string file(const std::string& name) const {
    return read_text_file(folder.path(name));
  }
  ScratchFolder folder;
};

using Notify = std::function<void(const TrainingProgress&)>;

inline TrainingOutcome run(
    const Plan& plan, const TrainingRunOptions& options,
    const Notify& notify = [](const TrainingProgress&) {}) {
  const Bootstrap ranks;
  return run_training(plan, options, ranks, notify, [](const std::string&) {});
}

struct Refusal {
  std::string message;
  ErrorKind kind = ErrorKind::Failed;
};

inline Refusal refusal_of(
    const Plan& plan, const TrainingRunOptions& options,
    const Notify& notify = [](const TrainingProgress&) {}) {
  try {
    static_cast<void>(run(plan, options, notify));
  } catch (const Error& error) {
    return {error.what(), error.kind()};
  }
  return {"no error"};
}

// The lines of a log that tell a training step, as text, by step.
inline std::map<std::int64_t, std::string> steps_of(const std::string& log) {
  std::map<std::int64_t, std::string> steps;
  std::istringstream stream(log);
  for (std::string line; std::getline(stream, line);) {
    if (!holds(line, "grad_norm")) continue;
    std::int64_t step = 0;
    REQUIRE(std::sscanf(line.c_str(), "{\"step\": %ld", &step) == 1);
    CHECK(!steps.contains(step));  // a step is told once
    steps[step] = line.substr(0, line.find(", \"tokens_per_s\""));
  }
  return steps;
}

// Every file below a folder with its contents.
inline std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[entry.path()] = read_text_file(entry.path());
  }
  return files;
}

inline bool same_checkpoint(const std::string& a, const std::string& b) {
  for (const char* name : {"/model.safetensors", "/optimizer.safetensors", "/state.json"}) {
    if (read_text_file(a + name) != read_text_file(b + name)) return false;
  }
  return true;
}

}  // namespace imhotep::executor
