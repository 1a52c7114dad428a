// Programs on ranks: what is refused at the start, nodes drawn by hand, and ranks that go missing.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "core/base/json_fields.h"
#include "core/spec/plan.h"
#include "profiles/catalogue.h"
#include "tests/cli/program.h"

using namespace imhotep;
using namespace imhotep::cli;

namespace {

namespace fs = std::filesystem;

constexpr const char* kMpirun =
    "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1 "
    "OMPI_MCA_btl_vader_single_copy_mechanism=none mpirun --oversubscribe --bind-to none -n ";

#ifdef IMHOTEP_SANITIZED
constexpr bool kSanitized = true;  // ranks under mpirun would report Open MPI's own leaks
#else
constexpr bool kSanitized = false;
#endif

std::string program() {
  const char* chosen = std::getenv("IMHOTEP_PROGRAM");
  return chosen != nullptr ? chosen : IMHOTEP_BUILT_PROGRAM;
}

// A training plan for a model whose vocabulary bytes fit into.
std::string plan_file(int ranks, int batch) {
  std::string plan = scratch_file(fmt::format("ranks-{}-{}.json", ranks, batch));
  if (fs::exists(plan)) return plan;
  ModelSpec model = profiles::find_model("nano-moe-8");
  model.name = "nano-words";
  model.vocab = 512;
  const std::string spec = scratch_file("nano-words.json");
  write_model(model, spec);
  const Outcome outcome = run_program(fmt::format(
      "plan {} --gpus {} --training --batch {} --sequence 16 -o {}", spec, ranks, batch, plan));
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  return plan;
}

std::string text_folder() {
  std::string folder = scratch_file("words");
  fs::create_directories(folder);
  std::string text;
  for (int i = 0; i < 6000; ++i) text += fmt::format("word{} ", i * 7919 % 4001);  // many pieces
  std::ofstream(folder + "/a.txt") << text;
  return folder;
}

std::string train(const std::string& plan, const std::string& out, int steps) {
  return fmt::format("train {} --data {} --out {} --steps {} --save-every 2 --keep 3", plan,
                     text_folder(), out, steps);
}

std::string bytes_of(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// The process that is this rank of the run whose command line holds `mark`; 0: none.
int process_of(const std::string& mark, int rank) {
  const std::string variable = fmt::format("OMPI_COMM_WORLD_RANK={}", rank) + '\0';
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (bytes_of("/proc/" + name + "/cmdline").find(mark) == std::string::npos) continue;
    if (bytes_of("/proc/" + name + "/environ").find(variable) == std::string::npos) continue;
    return std::stoi(name);
  }
  return 0;
}

int newest_step(const std::string& out) {
  const std::string latest = bytes_of(out + "/checkpoints/latest");
  return latest.starts_with("step_") ? std::stoi(latest.substr(5)) : 0;
}

// Half a minute for what takes a second on a quiet machine.
bool comes_true(const std::function<bool()>& condition) {
  for (int attempt = 0; attempt < 600; ++attempt) {
    if (condition()) return true;
    ::usleep(50'000);
  }
  return false;
}

}  // namespace

TEST_CASE("a plan for another number of ranks than were started is refused" *
          doctest::skip(kSanitized)) {
  const Outcome outcome =
      run_program(train(plan_file(4, 8), scratch_file("never"), 2), std::string(kMpirun) + "2");
  CHECK(outcome.code == 2);
  CAPTURE(outcome.err);
  CHECK(outcome.err.find("the plan is for 4 ranks, 2 were started; try: mpirun -n 4") !=
        std::string::npos);
  CHECK_FALSE(fs::exists(scratch_file("never")));
}

TEST_CASE("ranks with different plans are refused by rank and hash" * doctest::skip(kSanitized)) {
  const std::string one = plan_file(2, 8), other = plan_file(2, 4);
  const Outcome outcome = run_program(train(one, scratch_file("never"), 2) + " : -n 1 " +
                                          program() + " " + train(other, scratch_file("never"), 2),
                                      std::string(kMpirun) + "1");
  CHECK(outcome.code == 2);
  CAPTURE(outcome.err);
  CHECK(outcome.err.find(fmt::format("rank 0 has {}, rank 1 has {}", plan_hash(read_plan(one)),
                                     plan_hash(read_plan(other)))) != std::string::npos);
  CHECK_FALSE(fs::exists(scratch_file("never")));
}

TEST_CASE("nodes can be drawn by hand: sixteen ranks as four nodes of four") {
  const std::string file = scratch_file("drawn.json");
  const std::string ask = "plan nano-moe-8 --gpus 16 --training --batch 32 --sequence 16 ";
  REQUIRE(run_program(ask + "--ranks-per-node 4 --fix exchange=hierarchical -o " + file).code == 0);
  CHECK(read_plan(file).ranks_per_node == 4);
  CHECK(run_program(ask + "--fix exchange=hierarchical").code == 2);  // one node: not legal
  CHECK(run_program("simulate " + file).code == 0);
  CHECK(run_program("simulate " + file + " --ranks-per-node 2").code == 0);
  const Outcome refused = run_program("simulate " + file + " --ranks-per-node 16");
  CHECK(refused.code == 2);
  CHECK(refused.err.find("several nodes") != std::string::npos);
}

TEST_CASE("a run whose rank dies or is stopped ends within ten seconds and can be resumed" *
          doctest::skip(kSanitized)) {
  for (const int number : {SIGKILL, SIGSTOP}) {
    CAPTURE(number);
    const std::string out = scratch_file(fmt::format("missing-{}", number));
    const std::string plan = plan_file(4, 8);
    Outcome outcome;
    std::thread run([&] {
      // of its own process, since stdout and stderr are those of the thread
      outcome.code = std::system(fmt::format("'{}' {} >'{}.out' 2>'{}.err' </dev/null", program(),
                                             train(plan, out, 1'000'000), out, out)
                                     .c_str());
    });
    CHECK(comes_true([&] { return newest_step(out) >= 2; }));
    const int victim = process_of(out, 2);
    REQUIRE(victim > 0);
    const auto begin = std::chrono::steady_clock::now();
    ::kill(victim, number);
    run.join();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    MESSAGE("ended " << took.count() << " s after signal " << number);
    CHECK(took.count() < 10);
    CHECK(WEXITSTATUS(outcome.code) == (number == SIGKILL ? 137 : 1));
    const std::string errors = bytes_of(out + ".err");
    CAPTURE(errors);
    CHECK(errors.find(number == SIGKILL
                          ? "imhotep: rank 2 has died in "
                          : "imhotep: rank 2 has stopped answering in ") != std::string::npos);
    const int step = newest_step(out);
    const Outcome resumed = run_program(train(plan, out, step + 2) + " --resume");
    CHECK_MESSAGE(resumed.code == 0, resumed.err);
    CHECK(newest_step(out) == step + 2);
  }
}
