// What a person reads when a file is wrong: file, line, path, what was expected, what came.

#include <doctest/doctest.h>

#include <string>

#include "core/base/json_document.h"
#include "core/spec/cluster.h"
#include "core/spec/model.h"
#include "core/spec/plan.h"
#include "core/spec/workload.h"
#include "tests/core/failure.h"
#include "tests/core/samples.h"
#include "tests/core/scratch_folder.h"

namespace imhotep {
namespace {

using test::contains;
using test::failure;

constexpr const char* kModel = R"({
  "schema": "imhotep.model/1",
  "name": "m",
  "layers": 4,
  "hidden": 64,
  "heads": 4,
  "experts": "8",
  "router": {
    "drop": "random",
    "min_capacity": 4
  }
})";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// The message for a model file in which `from` was replaced, without the folder of the file.
std::string model_failure(const std::string& from, const std::string& to) {
  const test::ScratchFolder folder;
  const std::string file = folder.write("m.json", replaced(kModel, from, to));
  std::string message = failure([&] { (void)read_model(file); });
  const std::size_t at = message.find(folder.path() + "/");
  return at == std::string::npos ? message : message.erase(at, folder.path().size() + 1);
}

TEST_CASE("the unchanged file is good") {
  const test::ScratchFolder folder;
  const ModelSpec model = read_model(folder.write("m.json", kModel));
  CHECK(model.router.drop == DropPolicy::Random);
  CHECK(model.vocab == 50257);  // an absent optional key keeps its initial value
}

TEST_CASE("an unknown key is refused with the nearest known one") {
  CHECK(model_failure("\"layers\": 4", "\"layers\": 4,\n  \"contxt\": 9") ==
        "m.json:5: $.contxt: unknown key (did you mean \"context\"?)");
  CHECK(model_failure("\"min_capacity\"", "\"minimum\"") ==
        "m.json:10: $.router.minimum: unknown key");
}

TEST_CASE("a missing key is named with its object") {
  CHECK(model_failure("\"layers\": 4,\n", "") == "m.json:1: $: key \"layers\" is missing");
  CHECK(model_failure("\"schema\": \"imhotep.model/1\",\n", "") ==
        "m.json:1: $: key \"schema\" is missing (expected \"imhotep.model/1\")");
}

TEST_CASE("a value of the wrong type is shown beside what was expected") {
  CHECK(model_failure("\"layers\": 4", "\"layers\": \"4\"") ==
        "m.json:4: $.layers: expected an integer >= 1 <= 1000, got \"4\"");
  CHECK(model_failure("\"layers\": 4", "\"layers\": 4.0") ==
        "m.json:4: $.layers: expected an integer >= 1 <= 1000, got 4.0");
  CHECK(model_failure("\"name\": \"m\"", "\"name\": [1]") ==
        "m.json:3: $.name: expected a string, got [1]");
  CHECK(model_failure("\"heads\": 4", "\"heads\": 4, \"residual\": 1") ==
        "m.json:6: $.residual: expected true or false, got 1");
  CHECK(model_failure("\"random\"", "\"sometimes\"") ==
        "m.json:9: $.router.drop: expected one of none, random, probability, position, "
        "got \"sometimes\"");
  CHECK(contains(model_failure("\"experts\": \"8\"", "\"experts\": \"8y\""),
                 "m.json:7: $.experts: expected experts such as 32x10,64x2 or 128, got \"8y\""));
  CHECK(model_failure("\"experts\": \"8\"", "\"experts\": 8") ==
        "m.json:7: $.experts: expected a string, got 8");
}

TEST_CASE("numbers out of range are refused, also those no integer can hold") {
  CHECK(model_failure("\"layers\": 4", "\"layers\": 0") ==
        "m.json:4: $.layers: expected an integer >= 1 <= 1000, got 0");
  CHECK(model_failure("\"heads\": 4", "\"heads\": 4294967300") ==
        "m.json:6: $.heads: expected an integer >= 1 of 32 bits, got 4294967300");
  CHECK(contains(model_failure("\"heads\": 4", "\"heads\": 1e999"), "m.json: not valid JSON"));
  const std::string text = R"({"schema": "imhotep.workload/1", "kind": "training",
"global_batch": 9223372036854775808})";
  const test::ScratchFolder folder;
  CHECK(contains(failure([&] { (void)read_workload(folder.write("w.json", text)); }),
                 "w.json:2: $.global_batch: expected an integer >= 1 of 64 bits, "
                 "got 9223372036854775808"));
}

TEST_CASE("a duplicate key is refused where it comes the second time") {
  CHECK(model_failure("\"heads\": 4", "\"heads\": 4,\n  \"layers\": 4") ==
        "m.json:7: $.layers: duplicate key");
  CHECK(model_failure("\"min_capacity\": 4", "\"min_capacity\": 4, \"\\u0064rop\": \"none\"") ==
        "m.json:10: $.router.drop: duplicate key");
}

TEST_CASE("truncated and broken JSON is refused with its line") {
  const std::string whole = kModel;
  const test::ScratchFolder folder;
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::string file = folder.write("m.json", whole.substr(0, length));
    const std::string message = failure([&] { (void)read_model(file); });
    INFO(length, ": ", message);
    CHECK(contains(message, "m.json:"));
    CHECK(contains(message, "not valid JSON: the text ends too early"));
  }
  CHECK(contains(model_failure("\"layers\": 4", "\"layers\" 4"), "m.json:4: not valid JSON: "));
  CHECK(contains(model_failure("\"m\"", "\"\xff\""), "m.json:3: not valid JSON: "));
}

TEST_CASE("another kind of document is refused by its tag") {
  CHECK(model_failure("imhotep.model/1", "imhotep.plan/1") ==
        "m.json:2: $.schema: expected \"imhotep.model/1\", got \"imhotep.plan/1\"");
  CHECK(contains(model_failure(kModel, "[1, 2]"), "m.json:1: $: expected an object"));
}

TEST_CASE("fields that contradict each other are refused with the file") {
  CHECK(model_failure("\"heads\": 4", "\"heads\": 5") ==
        "m.json: model \"m\": heads (5) must divide hidden (64)");
}

TEST_CASE("a fault deep in a plan is named by its path") {
  const std::string text = plan_text(test::sample_plan());
  const std::string message = failure(
      [&] { (void)parse_plan(replaced(text, "\"slicing\": 4", "\"slicing\": true"), "p.json"); });
  CHECK(contains(message, "$.moe_layers[1].slicing: expected an integer >= 1, got true"));
  CHECK(contains(failure([&] { (void)parse_plan(replaced(text, "0.25,", "\"x\","), "p.json"); }),
                 "$.workload.routing.histograms[0][0]: expected a number, got \"x\""));
}

TEST_CASE("a cluster's faults have file, line and path") {
  const test::ScratchFolder folder;
  write_cluster(test::sample_cluster(), folder / "c.json");
  const std::string text = read_text_file(folder / "c.json");
  const std::string file =
      folder.write("c.json", replaced(text, "\"nodes\": 2", "\"nodes\": \"8\""));
  CHECK(contains(failure([&] { (void)read_cluster(file); }),
                 "c.json:19: $.nodes: expected an integer >= 1 <= 1048576, got \"8\""));
}

TEST_CASE("a file that is not there, or a folder, is an input error") {
  CHECK(contains(failure([] { (void)read_model("/nowhere/m.json"); }),
                 "/nowhere/m.json: cannot read: No such file"));
  const test::ScratchFolder folder;
  CHECK(contains(failure([&] { (void)read_model(folder.path()); }), "cannot read"));
}

TEST_CASE("nesting without end is refused rather than followed") {
  const std::string deep = "{\"a\": " + std::string(200000, '[');
  CHECK(contains(failure([&] { (void)JsonDocument::parse(deep, "d.json"); }),
                 "d.json: nested deeper than 100 levels"));
}

}  // namespace
}  // namespace imhotep
