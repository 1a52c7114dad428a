// docs/schemas is what the field lists say now, and an independent validator agrees with it.
// IMHOTEP_UPDATE_SCHEMAS=1 core_tests -tc="*schema documents*" rewrites the files.

#include <doctest/doctest.h>

#include <cstdlib>

#include "core/base/json_fields.h"
#include "core/spec/report.h"
#include "tests/core/json_schema.h"
#include "tests/core/samples.h"

namespace imhotep {
namespace {

std::string schema_file(const std::string& kind) {
  return std::string(IMHOTEP_SOURCE_DIR) + "/docs/schemas/" + kind + ".json";
}

template <class T>
void check_schema(const std::string& kind, const char* tag) {
  INFO(kind);
  const std::string current = document_schema_of<T>(tag).dump(2) + "\n";
  if (std::getenv("IMHOTEP_UPDATE_SCHEMAS") != nullptr) {
    write_text_file(schema_file(kind), current);
  }
  CHECK(read_text_file(schema_file(kind)) == current);
}

template <class T>
std::string problem(const std::string& kind, const T& value, const char* tag) {
  return test::schema_problem(read_text_file(schema_file(kind)), document_of(value, tag).dump());
}

TEST_CASE("the shipped schema documents are those of the field lists") {
  check_schema<ModelSpec>("model", kModelSchema);
  check_schema<ClusterSpec>("cluster", kClusterSchema);
  check_schema<Workload>("workload", kWorkloadSchema);
  check_schema<Plan>("plan", kPlanSchema);
  check_schema<RunReport>("report", kReportSchema);
}

TEST_CASE("what the program writes is valid by the shipped schemas") {
  CHECK(problem("model", test::sample_plan().model, kModelSchema).empty());
  CHECK(problem("cluster", test::sample_cluster(), kClusterSchema).empty());
  CHECK(problem("workload", test::sample_workload(), kWorkloadSchema).empty());
  CHECK(problem("plan", test::sample_plan(), kPlanSchema).empty());
  CHECK(problem("report", test::sample_report(), kReportSchema).empty());
}

TEST_CASE("the shipped schemas refuse what the program refuses") {
  const std::string schema = read_text_file(schema_file("plan"));
  const Json good = document_of(test::sample_plan(), kPlanSchema);
  const auto refused = [&](auto change) {
    Json body = good;
    change(body);
    return !test::schema_problem(schema, body.dump()).empty();
  };
  CHECK_FALSE(refused([](Json&) {}));
  CHECK(refused([](Json& body) { body["wrold"] = 8; }));
  CHECK(refused([](Json& body) { body.erase("world"); }));
  CHECK(refused([](Json& body) { body["world"] = "8"; }));
  CHECK(refused([](Json& body) { body["world"] = 0; }));
  CHECK(refused([](Json& body) { body["zero"] = 2; }));
  CHECK(refused([](Json& body) { body["schema"] = kModelSchema; }));
  CHECK(refused([](Json& body) { body["moe_layers"][0]["exchange"] = "fast"; }));
  CHECK(refused([](Json& body) { body["moe_layers"][0]["extra"] = 1; }));
  CHECK(refused([](Json& body) { body["workload"]["routing"]["histograms"][0][0] = "x"; }));
}

}  // namespace
}  // namespace imhotep
