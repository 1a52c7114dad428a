// Exported folders: executed on CPU ranks, and read again.

#include <doctest/doctest.h>

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "core/base/json_fields.h"
#include "core/spec/plan.h"
#include "profiles/catalogue.h"
#include "tests/cli/program.h"

using namespace imhotep;
using namespace imhotep::cli;

namespace {

std::string program() {
  const char* chosen = std::getenv("IMHOTEP_PROGRAM");
  return chosen != nullptr ? chosen : IMHOTEP_BUILT_PROGRAM;
}

int shell(const std::string& line) {
  const int status = std::system(line.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A plan for two ranks of a model whose vocabulary bytes fit into.
std::string small_plan() {
  static const std::string file = [] {
    ModelSpec model = profiles::find_model("nano-moe-8");
    model.name = "nano-words";
    model.vocab = 512;
    const std::string spec = scratch_file("nano-words.json");
    std::string plan = scratch_file("small.json");
    write_model(model, spec);
    const Outcome outcome =
        run_program("plan " + spec + " --gpus 2 --training --batch 4 --sequence 32 -o " + plan);
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    return plan;
  }();
  return file;
}

std::string exported(const std::string& target) {
  std::string folder = scratch_file("export-" + target);
  const Outcome outcome =
      run_program("export " + small_plan() + " --to " + target + " -o " + folder + " --overwrite");
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  return folder;
}

#ifdef IMHOTEP_SANITIZED
constexpr bool kSanitized = true;  // ranks under mpirun would report Open MPI's own leaks
#else
constexpr bool kSanitized = false;
#endif

}  // namespace

TEST_CASE("the mpirun folder trains as it stands, and measures what it expected" *
          doctest::skip(kSanitized)) {
  const std::string folder = exported("mpirun");
  CHECK(shell("cd '" + folder + "' && sha256sum --quiet -c SHA256SUMS") == 0);
  const std::string quiet = " >'" + scratch_file("out") + "' 2>&1";
  const std::string with = "STEPS=4 IMHOTEP='" + program() + "' '" + folder;
  REQUIRE_MESSAGE(shell(with + "/run.sh'" + quiet) == 0, read_text_file(scratch_file("out")));
  const Json report = JsonDocument::read(folder + "/run/report.json").value();
  CHECK(report.at("plan_hash") ==
        JsonDocument::read(folder + "/expected.json").value().at("plan_hash"));
  REQUIRE_MESSAGE(shell(with + "/bench.sh'" + quiet) == 0, read_text_file(scratch_file("out")));
  CHECK(read_text_file(scratch_file("out")).find("measured") != std::string::npos);
}

TEST_CASE("every folder is read again as the same plan") {
  const std::string hash = plan_hash(read_plan(small_plan()));
  for (const char* target : {"mpirun", "slurm", "kubernetes", "docker"}) {
    const std::string folder = exported(target);
    const Outcome again = run_program("explain " + folder + " --json");
    REQUIRE_MESSAGE(again.code == 0, again.err);
    CHECK(JsonDocument::parse(again.out, "explain").value().at("plan_hash") == hash);
    const Outcome twice = run_program("export " + folder + " --to slurm --json -o " +
                                      scratch_file("again") + " --overwrite");
    CHECK(JsonDocument::parse(twice.out, "export").value().at("plan_hash") == hash);
  }
}

TEST_CASE("export refuses what it cannot do") {
  const std::string plan = small_plan();
  CHECK(run_program("export " + plan + " --to nowhere -o " + scratch_file("x")).code == 2);
  CHECK(run_program("export " + plan + " -o " + scratch_file("x")).code == 2);
  exported("slurm");
  const Outcome there =
      run_program("export " + plan + " --to slurm -o " + scratch_file("export-slurm"));
  CHECK(there.code == 2);
  CHECK(there.err.find("--overwrite") != std::string::npos);
  Plan priced = read_plan(plan);
  priced.executable = false;
  const std::string only_priced = scratch_file("priced.json");
  write_plan(priced, only_priced);
  CHECK(run_program("export " + only_priced + " --to mpirun -o " + scratch_file("y")).code == 2);
}
