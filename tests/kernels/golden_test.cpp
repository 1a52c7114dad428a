// Cases made by running the reference implementation. The folder may be replaced from outside, so
// a case is recognised by its fields, and one that is not recognised fails.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/kernels/golden_case.h"

namespace imhotep::golden {

void check_case(const nlohmann::json& json) {
  if (!json.is_object()) fail("a case is an object of fields");
  Case fields(json);
  if (fields.has("student") && fields.has("teacher")) {
    check_distillation_case(fields);
  } else if (fields.has("params") && fields.has("x") && fields.has("y")) {
    check_layer_case(fields);
  } else if (fields.has("logits") && fields.has("expert") && fields.has("slot") &&
             fields.has("gate")) {
    check_routing_case(fields);
  } else {
    fail("no kind of case has these fields");
  }
  fields.finish();
}

namespace {

std::filesystem::path folder() {
  const char* given = std::getenv("IMHOTEP_GOLDEN_DIR");
  return given != nullptr ? given : IMHOTEP_SOURCE_DIR "/tests/data/golden";
}

std::vector<std::filesystem::path> files() {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    if (entry.path().extension() == ".json") found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string failure(const nlohmann::json& json) {
  try {
    check_case(json);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

TEST_CASE("every golden case is reproduced") {
  int cases = 0;
  for (const auto& path : files()) {
    std::ifstream stream(path);
    const auto file = nlohmann::json::parse(stream);
    REQUIRE_MESSAGE(file.is_object(), path.string(), ": a file is an object of named cases");
    for (const auto& item : file.items()) {
      const std::string& name = item.key();
      const nlohmann::json& json = item.value();
      const std::string problem = failure(json);
      CHECK_MESSAGE(problem.empty(), path.filename().string(), ": ", name, ": ", problem);
      ++cases;
    }
  }
  MESSAGE(cases, " cases in ", folder().string());
  CHECK_MESSAGE(cases > 0, "no golden case in ", folder().string());
}

// The project's own file, whatever folder is tested: each number of each case is moved a little.
TEST_CASE("a golden case that differs anywhere is noticed") {
  std::ifstream stream(IMHOTEP_SOURCE_DIR "/tests/data/golden/deepspeed.json");
  const auto file = nlohmann::json::parse(stream);
  for (const auto& item : file.items()) {
    const std::string& name = item.key();
    const nlohmann::json& json = item.value();
    for (const std::string field : {"l_aux", "capacity", "expert", "slot", "gate", "exp_counts",
                                    "y", "dx", "loss", "dstudent"}) {
      if (!json.contains(field) || json.at(field).is_string()) continue;
      auto changed = json;
      auto& value = changed[field].is_array() ? changed[field].front() : changed[field];
      value.is_number_integer() ? value = value.get<int>() + 1 : value = value.get<double>() + 1e-3;
      CHECK_MESSAGE(failure(changed).find(field) != std::string::npos, name, ".", field);
    }
    const auto parameters = json.value("params", nlohmann::json::object());
    for (const auto& tensor : parameters.items()) {
      const std::string& parameter = tensor.key();
      auto changed = json;
      auto& grad = changed["params"][parameter]["grad"].back();
      grad = grad.get<double>() + 1e-2;
      CHECK_MESSAGE(!failure(changed).empty(), name, ": gradient of ", parameter);
    }
    auto unknown = json;
    unknown["surprise"] = 1;
    CHECK(failure(unknown) == "field 'surprise' is unknown to this kind of case");
  }
}

TEST_CASE("unknown kinds of cases and unknown values are refused") {
  CHECK(failure({{"logits", {1.0}}}) == "no kind of case has these fields");
  CHECK(failure(nlohmann::json::array()) == "a case is an object of fields");
  std::ifstream stream(IMHOTEP_SOURCE_DIR "/tests/data/golden/deepspeed.json");
  const auto file = nlohmann::json::parse(stream);
  const auto changed = [&](const char* name, const char* field, const nlohmann::json& value) {
    auto json = file.at(name);
    json[field] = value;
    return failure(json);
  };
  CHECK(changed("layer_residual_top1", "activation", "mish") == "activation 'mish' is unknown");
  CHECK(changed("layer_residual_top1", "loss", "sum(y)") == "loss 'sum(y)' is unknown");
  CHECK(changed("top3_probs_cf0.8_min2", "policy", "dice") == "policy 'dice' is unknown");
  CHECK(changed("top2_nodrop", "k", 3) == "k = 3, but the table has 2 choices");
}

}  // namespace
}  // namespace imhotep::golden
