#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "planner/deploy/deploy.h"
#include "planner/space/space.h"
#include "tests/core/json_schema.h"
#include "tests/planner/small_models.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

namespace fs = std::filesystem;

Plan some_plan(WorkloadKind kind) {
  Request request = small_request("4x2,8x1", 8, kind);
  request.fixed = parse_fixed_degrees("tensor=2,expert=4,slicing=1", request.model);
  Plan plan = Space(request).plan({});
  plan.predicted.time_us = {.value = 1500, .low = 1000, .high = 2500};
  return plan;
}

std::vector<DeployFile> folder_of(DeployTarget target, WorkloadKind kind) {
  return deploy(some_plan(kind), small_cluster(4, 4, true),
                {.target = target,
                 .name = "job",
                 .data = {{.path = "data/clusters/small.json", .text = "{}"}}});
}

std::string text_of(const std::vector<DeployFile>& files, const std::string& path) {
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const DeployFile& file) { return file.path == path; });
  return found == files.end() ? "" : found->text;
}

constexpr DeployTarget kTargets[] = {DeployTarget::Mpirun, DeployTarget::Slurm,
                                     DeployTarget::Kubernetes, DeployTarget::Docker};

}  // namespace

TEST_CASE("checksums are those of the standard") {  // FIPS 180-4 examples, and a million letters
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("an exported folder holds the same plan, all its checksums and nothing unfilled") {
  for (const DeployTarget target : kTargets) {
    for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
      const std::vector<DeployFile> files = folder_of(target, kind);
      CHECK(plan_hash(parse_plan(text_of(files, "plan.json"), "plan")) ==
            plan_hash(some_plan(kind)));
      const JsonDocument expected = JsonDocument::parse(text_of(files, "expected.json"), "x");
      CHECK(expected.value().is_object());
      std::string sums;
      for (const DeployFile& file : files) {
        CAPTURE(file.path);
        if (file.path == "SHA256SUMS") continue;
        sums += sha256(file.text) + "  " + file.path + "\n";
        CHECK(file.text.find('@' + std::string("WORLD")) == std::string::npos);
        for (std::size_t at = file.text.find('@'); at != std::string::npos;
             at = file.text.find('@', at + 1)) {  // "${a[@]}" and "$@" are the shell's
          CHECK((at + 1 >= file.text.size() ||
                 std::isupper(static_cast<unsigned char>(file.text[at + 1])) == 0));
        }
        CHECK(file.text.size() > 1);
      }
      CHECK(text_of(files, "SHA256SUMS") == sums);
      CHECK(files.back().path == "SHA256SUMS");
    }
  }
}

TEST_CASE("scripts are what bash and shellcheck accept") {
  const fs::path root =
      fs::temp_directory_path() / fmt::format("imhotep-deploy-tests-{}", ::getpid());
  const bool linted = std::system("command -v shellcheck >/dev/null 2>&1") == 0;
  for (const DeployTarget target : kTargets) {
    for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
      fs::create_directories(root);
      std::string scripts;
      for (const DeployFile& file : folder_of(target, kind)) {
        if (file.path.find('/') != std::string::npos) continue;
        write_text_file((root / file.path).string(), file.text);
        if (file.executable) scripts += " " + file.path;
      }
      REQUIRE(!scripts.empty());
      const std::string in = "cd '" + root.string() + "' && ";
      CHECK(std::system((in + "for f in" + scripts + "; do bash -n $f || exit 1; done").c_str()) ==
            0);
      if (linted) CHECK(std::system((in + "shellcheck -x" + scripts).c_str()) == 0);
      fs::remove_all(root);
    }
  }
  if (!linted) MESSAGE("shellcheck is not installed: scripts were only parsed");
}

TEST_CASE("manifests are valid by the schemas of JobSet and LeaderWorkerSet") {
  const std::string tests = std::string(IMHOTEP_SOURCE_DIR) + "/tests/planner/";
  const auto check = [&](WorkloadKind kind, const std::string& name) {
    const std::string manifest = text_of(folder_of(DeployTarget::Kubernetes, kind), name + ".json");
    const std::string schema = read_text_file(tests + name + "_schema.json");
    CHECK(test::schema_problem(schema, manifest) == "");
    std::string wrong = manifest;
    wrong.replace(wrong.find("\"containers\""), 12, "\"contaners\"");
    CHECK(test::schema_problem(schema, wrong) != "");
    std::string text = manifest;
    text.replace(text.find("\"replicas\": 1"), 13, "\"replicas\": \"1\"");
    CHECK(test::schema_problem(schema, text) != "");
  };
  check(WorkloadKind::Training, "jobset");
  check(WorkloadKind::Generation, "leaderworkerset");
}

TEST_CASE("a job asks for the nodes, ranks and devices of its plan") {
  const auto slurm = folder_of(DeployTarget::Slurm, WorkloadKind::Training);
  const std::string job = text_of(slurm, "job.sbatch");
  for (const char* line : {"#SBATCH --nodes=2\n", "#SBATCH --ntasks=8\n",
                           "#SBATCH --ntasks-per-node=4\n", "#SBATCH --gpus-per-node=4\n"}) {
    CHECK_MESSAGE(job.find(line) != std::string::npos, line);
  }
  const auto run = text_of(folder_of(DeployTarget::Mpirun, WorkloadKind::Training), "run.sh");
  CHECK(run.find("ranks=(-n 8)") != std::string::npos);
  const auto launch =
      text_of(folder_of(DeployTarget::Kubernetes, WorkloadKind::Training), "launch.sh");
  CHECK(launch.find("i < 2 + 0") != std::string::npos);
  CHECK(launch.find("$host:4") != std::string::npos);
}
