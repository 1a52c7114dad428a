#include "simulator/step_programs.h"

#include <algorithm>

#include "core/base/fail.h"

namespace imhotep::simulator {
namespace {

std::vector<StepProgram> training(const Plan& plan) {
  std::vector<StepProgram> programs;
  programs.push_back({.program = program::build_train_step(plan, Rank(0), {.first = true})});
  if (plan.accumulation > 1) {
    programs.push_back({.program = program::build_train_step(plan, Rank(0), {.first = false}),
                        .times = static_cast<double>(plan.accumulation - 1)});
  }
  programs.push_back({.program = program::build_update(plan, Rank(0))});
  return programs;
}

std::vector<StepProgram> prefill(const Plan& plan) {
  program::GenerateShape shape = program::prefill_shape(plan);
  const std::int64_t prompt = plan.workload.prompt;
  const std::int64_t chunks = (prompt + shape.rows - 1) / shape.rows;
  // Attention is linear in the keys it meets, so the chunks cost what the middle one does.
  shape.context = (static_cast<double>(prompt) + 1) / 2;
  std::vector<StepProgram> programs;
  programs.push_back({.program = program::build_generate(plan, Rank(0), shape),
                      .times = static_cast<double>(chunks)});
  return programs;
}

}  // namespace

std::vector<StepProgram> step_programs(const Plan& plan, const std::string& phase) {
  if (phase == "training") return training(plan);
  if (phase == "prefill") return prefill(plan);
  std::vector<StepProgram> programs;
  if (phase == "decode") {
    programs.push_back(
        {.program = program::build_generate(plan, Rank(0), program::decode_shape(plan))});
  } else if (phase == "evaluation") {
    programs.push_back({.program = program::build_evaluate(plan, Rank(0), plan.micro_batch)});
  } else {
    fail_input("phase \"{}\": expected training, decode, prefill or evaluation", phase);
  }
  return programs;
}

}  // namespace imhotep::simulator
