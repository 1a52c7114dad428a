// A machine whose GPUs cannot be used: every cause ends a command in one message that says what was
// found and what is needed. The CUDA library is one that computes nothing (fake_cuda.cpp).

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>

#include "tests/cli/program.h"

using namespace imhotep::cli;

namespace {

std::string scene(const std::string& name) {
  return "FAKE_CUDA=" + name + " IMHOTEP_CUDA_LIBRARY=" IMHOTEP_FAKE_CUDA;
}

// A training plan for GPUs, written once.
std::string plan_for(int gpus) {
  std::string file = scratch_file("plan-" + std::to_string(gpus) + ".json");
  const Outcome outcome =
      run_program("plan tiny-pr-moe-4-8 --training --cluster dgx-h100 --gpus " +
                  std::to_string(gpus) + " --batch 64 --sequence 256 -o " + file);
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  return file;
}

void check_refused(const std::string& plan, const std::string& before,
                   const std::vector<std::string>& parts) {
  const Outcome outcome =
      run_program("train " + plan + " --data " + scratch_file("text.txt", std::string(4000, 'x')) +
                      " --out " + scratch_file("run"),
                  before);
  CHECK(outcome.code == 5);
  for (const std::string& part : parts) CHECK_MESSAGE(contains(outcome.err, part), outcome.err);
}

}  // namespace

TEST_CASE("a plan for GPUs says why this machine has none") {
  const std::string plan = plan_for(1);
  check_refused(plan, "IMHOTEP_CUDA_LIBRARY=", {"no CUDA in this program"});
  check_refused(plan, "IMHOTEP_CUDA_LIBRARY=/nowhere/libimhotep_cuda.so",
                {"/nowhere/libimhotep_cuda.so"});
  check_refused(plan, scene("other_interface"), {"expected interface", "got"});
  check_refused(plan, scene("no_driver"), {"no driver is loaded", "CUDA 13.0"});
  check_refused(plan, scene("old_driver"), {"CUDA 12.4", "needs CUDA 13.0"});
  check_refused(plan, scene("no_gpu"), {"sees no device"});
}

TEST_CASE("a plan for more GPUs than there are is refused with their number") {
  check_refused(plan_for(2), scene("one_gpu"), {"2 ranks", "1 GPU"});
}

TEST_CASE("a plan that does not fit the GPU is refused with the missing bytes and one that fits") {
  const std::string folder = scratch_file("texts");
  REQUIRE(std::system(("mkdir -p " + folder).c_str()) == 0);
  std::string text;  // of random letters: enough different pieces for a tokenizer
  std::uint32_t state = 12345;
  for (int i = 0; i < 140'000; ++i) {
    state = state * 1103515245U + 12345U;
    text += i % 7 == 6 ? ' ' : static_cast<char>('a' + state / 65536 % 26);
  }
  REQUIRE(scratch_file("texts/a.txt", text) == folder + "/a.txt");
  const Outcome outcome =
      run_program("train " + plan_for(1) + " --data " + folder + " --out " + scratch_file("large"),
                  scene("one_gpu"));
  CHECK(outcome.code == 1);
  CHECK_MESSAGE(contains(outcome.err, "600 MB are free"), outcome.err);
  CHECK_MESSAGE(contains(outcome.err, "bytes too few"), outcome.err);
  CHECK_MESSAGE(
      contains(outcome.err, "would do for: imhotep plan tiny-pr-moe-4-8 --fix micro_batch="),
      outcome.err);
}
