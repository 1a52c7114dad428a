#include "core/spec/plan.h"

#include <doctest/doctest.h>

#include <set>

#include "core/base/json_fields.h"
#include "tests/core/failure.h"
#include "tests/core/random_plans.h"
#include "tests/core/samples.h"
#include "tests/core/scratch_folder.h"

namespace imhotep {
namespace {

using test::contains;
using test::failure;

// The text of a value read back from the text of a value.
template <class T>
std::string reread(const T& value, const std::string& schema) {
  const std::string text = document_of(value, schema).dump(2);
  return document_of(read_document<T>(JsonDocument::parse(text, "text"), schema), schema).dump(2);
}

template <class T>
void check_round_trip(const T& value, const std::string& schema) {
  CHECK(reread(value, schema) == document_of(value, schema).dump(2));
}

TEST_CASE("every kind of document survives being written and read") {
  check_round_trip(test::sample_plan(), kPlanSchema);
  check_round_trip(test::sample_plan().model, kModelSchema);
  check_round_trip(test::sample_workload(), kWorkloadSchema);
  check_round_trip(test::sample_cluster(), kClusterSchema);
  check_round_trip(test::sample_report(), kReportSchema);
}

TEST_CASE("documents survive files") {
  const test::ScratchFolder folder;
  write_plan(test::sample_plan(), folder / "plan.json");
  CHECK(plan_text(read_plan(folder / "plan.json")) == plan_text(test::sample_plan()));
  write_report(test::sample_report(), folder / "report.json");
  CHECK(json_of(read_report(folder / "report.json")) == json_of(test::sample_report()));
  write_cluster(test::sample_cluster(), folder / "cluster.json");
  CHECK(json_of(read_cluster(folder / "cluster.json")) == json_of(test::sample_cluster()));
  write_workload(test::sample_workload(), folder / "workload.json");
  CHECK(json_of(read_workload(folder / "workload.json")) == json_of(test::sample_workload()));
  write_model(test::sample_plan().model, folder / "model.json");
  CHECK(read_model(folder / "model.json") == test::sample_plan().model);
}

TEST_CASE("what cannot be written leaves the old file as it was") {
  const test::ScratchFolder folder;
  const std::string file = folder.write("plan.json", "old");
  CHECK(contains(failure([&] { write_plan(test::sample_plan(), folder / "none/plan.json"); },
                         ErrorKind::Failed),
                 "none/plan.json: cannot write: No such file"));
  CHECK(read_text_file(file) == "old");
}

TEST_CASE("random legal plans survive their text") {
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    INFO("seed ", seed);
    const std::string text = plan_text(test::random_plan(seed));
    CHECK(plan_text(parse_plan(text, "plan.json")) == text);
  }
}

TEST_CASE("the hash tells plans apart by all but their prediction") {
  const std::string hash = plan_hash(test::sample_plan());
  CHECK(hash.size() == 16);
  CHECK(plan_hash(parse_plan(plan_text(test::sample_plan()), "plan.json")) == hash);
  Plan predicted = test::sample_plan();
  predicted.predicted = {};
  CHECK(plan_hash(predicted) == hash);
  std::set<std::string> hashes = {hash};
  const auto changed = [&](auto change) {
    Plan plan = test::sample_plan();
    change(plan);
    hashes.insert(plan_hash(plan));
  };
  changed([](Plan& p) { p.model.name = "other"; });
  changed([](Plan& p) { p.workload.routing.histograms[1][0] += 1e-12; });
  changed([](Plan& p) { p.moe_layers[1].receive_rows = 1; });
  changed([](Plan& p) { p.zero = 0; });
  changed([](Plan& p) { p.executable = true; });
  changed([](Plan& p) { p.rank_order = RankOrder::Strided; });
  CHECK(hashes.size() == 7);
}

TEST_CASE("a plan for one rank fits any model") {
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    INFO("seed ", seed);
    const Plan other = test::random_plan(seed);
    const Plan plan = single_rank_plan(other.model, other.workload);
    CHECK(check_degrees(plan).feasible);
    CHECK(plan.moe_layers.size() == other.moe_layers.size());
    CHECK(plan.micro_batch == other.workload.global_batch);
  }
}

TEST_CASE("the degrees of a layer are found by its block") {
  const Plan plan = test::sample_plan();
  REQUIRE(plan.moe(3) != nullptr);
  CHECK(plan.moe(3)->slicing == 4);
  CHECK(plan.moe(0) == nullptr);
  CHECK(plan.moe(-1) == nullptr);
}

TEST_CASE("data ranks share the sequences of a generation, the last one may have fewer") {
  Plan plan = test::sample_plan();
  CHECK(plan.sequences_per_rank() == 4);
  plan.workload.global_batch = 17;
  CHECK(plan.sequences_per_rank() == 5);
}

TEST_CASE("a plan file whose degrees or model contradict each other is refused") {
  const test::ScratchFolder folder;
  Plan plan = test::sample_plan();
  plan.moe_layers[1].expert = 3;
  write_plan(plan, folder / "plan.json");
  CHECK(contains(failure([&] { (void)read_plan(folder / "plan.json"); }),
                 "plan.json: layer 3: expert 3 does not divide 4 experts; possible: 1, 2, 4"));
  plan = test::sample_plan();
  plan.model.heads = 7;
  CHECK(contains(failure([&] { (void)parse_plan(plan_text(plan), "here"); }),
                 "here: model \"sample\": heads (7) must divide hidden (64)"));
}

}  // namespace
}  // namespace imhotep
