// The commands of serving, as far as they need no server: forecasts and refusals.

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace imhotep::cli {
namespace {

using Json = nlohmann::json;

std::string generation_plan() {
  std::string file = scratch_file("serving_plan.json");
  const Outcome outcome = run_program(
      "plan nano-pr-moe-2-8 --gpus 2 --generation --prompt 16 --output 16 --batch 4 "
      "--profile none -o " +
      file);
  REQUIRE(outcome.code == 0);
  return file;
}

}  // namespace

TEST_CASE("simulate says what clients of a plan would see, and up to which rate") {
  const std::string plan = generation_plan();
  const auto traffic = [&](const std::string& options) {
    const Outcome outcome = run_program("simulate " + plan + " --profile none --json " + options);
    REQUIRE(outcome.code == 0);
    return Json::parse(outcome.out).at("traffic");
  };
  const Json calm = traffic("--rate 1 --requests 200"),
             busy = traffic("--rate 5000 --requests 200");
  for (const char* name : {"queue_us", "first_token_us", "per_token_us", "gap_us"}) {
    CAPTURE(std::string(name));
    CHECK(calm[name]["p50"] <= calm[name]["p99"]);
    CHECK(calm[name]["mean"] <= busy[name]["mean"]);
  }
  const Json closed = traffic("--concurrency 2 --requests 200");
  // As many clients as places: they wait for the end of a step at most, and then take one.
  CHECK(closed["queue_us"]["p99"] > 0);
  CHECK(closed["queue_us"]["p99"].get<double>() <
        0.6 * closed["first_token_us"]["p99"].get<double>());
  CHECK(closed["requests_per_s"].get<double>() > calm["requests_per_s"].get<double>());
  const double lone_ms = calm["first_token_us"]["p50"].get<double>() / 1e3;
  const auto rate = [&](double limit_ms) {
    return traffic("--requests 100 --limit-first " + std::to_string(limit_ms))["highest_rate_per_s"]
        .get<double>();
  };
  CHECK(rate(lone_ms / 2) == 0);
  CHECK(rate(20 * lone_ms) > rate(3 * lone_ms));
  CHECK_FALSE(Json::parse(run_program("simulate " + plan + " --profile none --json").out)
                  .contains("traffic"));
}

TEST_CASE("what cannot be served or asked is said") {
  const std::string training = scratch_file("training_plan.json");
  REQUIRE(run_program("plan nano-moe-8 --gpus 1 --batch 8 --profile none -o " + training).code ==
          0);
  const struct {
    std::string arguments;
    int code;
    const char* part;
  } cases[] = {
      {"simulate " + training + " --rate 3", 2, "generation"},
      {"simulate " + generation_plan() + " --rate 0", 2, "rate above 0"},
      {"simulate " + generation_plan() + " --rate 1 --concurrency 3", 2, "closed loop"},
      {"serve nano-moe-8 --random-weights --plan " + training, 2, "for training"},
      {"serve nano-moe-8 --random-weights --port 70000", 2, "65535"},
      {"serve nano-moe-8 --random-weights --host nowhere --quiet", 2, "--host nowhere"},
      {"serve /nowhere", 2, "no such folder"},
      {"bench serve http://127.0.0.1:1 --rate 3", 1, "127.0.0.1:1"},
      {"bench serve http://127.0.0.1:1", 2, "--rate, --trace or --concurrency"},
      {"bench serve http://127.0.0.1:1 --rate 1 --prompt 9:3", 2, "--prompt"},
  };
  for (const auto& one : cases) {
    CAPTURE(one.arguments);
    const Outcome outcome = run_program(one.arguments, "timeout 20");
    CHECK(outcome.code == one.code);
    CHECK_MESSAGE(outcome.err.find(one.part) != std::string::npos, outcome.err);
  }
}

}  // namespace imhotep::cli
