#include "tests/architecture/layers.h"

#include <doctest/doctest.h>

#include <string>

namespace imhotep::architecture {
namespace {

const SourceTree& real_tree() {
  static const SourceTree kTree = read_tree(IMHOTEP_SOURCE_DIR);
  return kTree;
}

TEST_CASE("every file uses only the rooms it may use") {
  REQUIRE(real_tree().contains("core/base/error.h"));
  CHECK_MESSAGE(forbidden_includes(real_tree()).empty(), describe(forbidden_includes(real_tree())));
}

TEST_CASE("headers stay free of the heavy JSON header") {
  CHECK_MESSAGE(heavy_headers(real_tree()).empty(), describe(heavy_headers(real_tree())));
}

TEST_CASE("device files reach no formatting library") {
  CHECK_MESSAGE(device_includes(real_tree()).empty(), describe(device_includes(real_tree())));
}

TEST_CASE("no file is longer than five hundred lines") {
  CHECK_MESSAGE(oversized_files(real_tree()).empty(), describe(oversized_files(real_tree())));
  const auto beyond_aim = long_files(real_tree());
  if (!beyond_aim.empty()) MESSAGE("longer than the aim:" << describe(beyond_aim));
}

TEST_CASE("a planted include of a higher room is caught with its line") {
  const SourceTree tree = {{"planner/space/plans.cpp",
                            "#include <vector>\n"
                            "#include \"simulator/engine/timeline.h\"\n"
                            "  # include \"executor/comm/world.h\"\n"}};
  const auto findings = forbidden_includes(tree);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].path == "planner/space/plans.cpp");
  CHECK(findings[0].line == 3);
  CHECK(findings[0].text == "planner may not use executor: \"executor/comm/world.h\"");
}

TEST_CASE("every room is refused what stands above it") {
  const struct {
    const char* path;
    const char* include;
    bool allowed;
  } kCases[] = {
      {"core/base/json.cpp", "core/spec/model.h", false},
      {"core/spec/model.cpp", "core/base/json.h", true},
      {"core/layout/a.cpp", "profiles/store.h", false},
      {"profiles/a.cpp", "core/spec/model.h", true},
      {"profiles/a.cpp", "simulator/cost/a.h", false},
      {"kernels/gate.cpp", "core/base/error.h", true},
      {"kernels/gate.cpp", "core/spec/model.h", false},
      {"simulator/a.cpp", "profiles/store.h", true},
      {"simulator/a.cpp", "kernels/gate.h", false},
      {"planner/a.cpp", "kernels/gate.h", false},
      {"executor/a.cpp", "kernels/gate.h", true},
      {"executor/a.cpp", "simulator/a.h", false},
      {"executor/a.cpp", "planner/a.h", false},
      {"cli/a.cpp", "executor/a.h", true},
      {"cli/a.cpp", "gui/app/window.h", false},
      {"gui/a.cpp", "planner/a.h", true},
      {"gui/a.cpp", "executor/a.h", false},
      {"tests/cli/a.cpp", "gui/a.h", true},
      {"corelike/a.cpp", "core/base/error.h", false},
      {"core/spec/model.cpp", "model.h", false},
      {"core/spec/model.cpp", "../base/error.h", false},
  };
  for (const auto& one : kCases) {
    CAPTURE(one.path);
    CAPTURE(one.include);
    const SourceTree tree = {{one.path, "#include \"" + std::string(one.include) + "\"\n"}};
    CHECK(forbidden_includes(tree).empty() == one.allowed);
  }
}

TEST_CASE("a planted JSON header is caught outside core/base and in headers alone") {
  const std::string text = "#pragma once\n#include <nlohmann/json.hpp>\n";
  CHECK(heavy_headers({{"core/base/json.h", text}}).empty());
  CHECK(heavy_headers({{"tests/kernels/golden.h", text}}).empty());
  CHECK(heavy_headers({{"cli/report.cpp", text}}).empty());
  CHECK(heavy_headers({{"cli/report.h", "#include <nlohmann/json_fwd.hpp>\n"}}).empty());
  const auto findings = heavy_headers({{"cli/report.h", text}});
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].line == 2);
}

TEST_CASE("a formatting library is caught through two headers of ours") {
  SourceTree tree = {{"kernels/gate_cuda.cu", "#include \"kernels/gate.h\"\n"},
                     {"kernels/gate.h", "#include \"core/base/fail.h\"\n"},
                     {"core/base/fail.h", "#include <fmt/format.h>\n#include \"kernels/gate.h\"\n"},
                     {"kernels/gate.cpp", "#include <fmt/format.h>\n"}};
  const auto findings = device_includes(tree);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].path == "core/base/fail.h");
  tree["kernels/gate.h"] = "#include \"core/base/error.h\"\n";
  CHECK(device_includes(tree).empty());
}

TEST_CASE("a file of 501 lines is too long and one of 500 is not") {
  std::string text;
  for (int line = 0; line < 500; ++line) text += "\n";
  CHECK(oversized_files({{"cli/main.cpp", text}}).empty());
  CHECK(oversized_files({{"cli/main.cpp", text + "\n"}}).size() == 1);
  CHECK(long_files({{"cli/main.cpp", text}}).size() == 1);
}

}  // namespace
}  // namespace imhotep::architecture
