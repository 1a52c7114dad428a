// Questions beside "which plan is best": limits, bands, robustness, the front, what if.

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/base/json_document.h"
#include "core/base/json_fields.h"
#include "core/spec/plan.h"
#include "tests/cli/program.h"

using namespace imhotep;
using namespace imhotep::cli;

namespace {

const std::string kAsk = "plan tiny-pr-moe-4-8 --cluster dgx-h100 --profile none ";

Json json_of(const std::string& arguments, int code = 0) {
  const Outcome outcome = run_program(arguments + " --json");
  CHECK_MESSAGE(outcome.code == code, outcome.err);
  return JsonDocument::parse(outcome.out, arguments).value();
}

double time_of(const Json& plan) { return plan.at("predicted").at("time_us").at("value"); }

}  // namespace

TEST_CASE("limits hold in every plan, and what breaks them is counted") {
  const std::string ask = kAsk + "--gpus 8 --generation --top 20 ";
  const Json free = json_of(ask);
  const Json& plans = free.at("plans");
  const double middle = time_of(plans.at(plans.size() / 2));
  const Json limited = json_of(ask + "--limit token=" + std::to_string(middle) + "us");
  for (const Json& plan : limited.at("plans")) {
    if (plan.at("feasible") == true) CHECK(time_of(plan) <= middle);
  }
  CHECK(limited.at("search").at("rejected").at("limits") > 0);
  CHECK(time_of(limited.at("plans").at(0)) == doctest::Approx(time_of(plans.at(0))));
}

TEST_CASE("limits that nothing keeps end with 3, the nearest plan and what to give up") {
  const std::string ask = kAsk + "--gpus 8 --generation --limit token=1us";
  const Outcome outcome = run_program(ask);
  CHECK(outcome.code == 3);
  CHECK(contains(outcome.out, "more than the 1.00 us that the limit step allows"));
  CHECK(contains(outcome.out, "without the limits of time and money"));
  CHECK(json_of(ask, 3).at("error").at("code") == 3);
  const Outcome small = run_program(kAsk + "--gpus 8 --limit memory=1MB");
  CHECK(small.code == 3);
  CHECK(contains(small.out, "than the 1.00 MB it has"));
}

TEST_CASE("limits that contradict the question or cannot be read are refused") {
  const auto refused = [](const std::string& options, const std::string& says) {
    const Outcome outcome = run_program(kAsk + options);
    CHECK(outcome.code == 2);
    CHECK_MESSAGE(contains(outcome.err, says), outcome.err);
  };
  refused("--gpus 8 --limit gpus=4", "contradict");
  refused("--limit tokn=3ms", "did you mean \"token\"?");
  refused("--limit token=fast", "a time such as 25ms");
  refused("--training --limit first_token=1s", "training has no prompts");
  refused("--training --limit time=30d", "--tokens");
  refused("--limit cost=1", "--price");
  refused("--bands batch=8", "batch=1:128");
  refused("--bands batch=8:4", "in order");
  refused("--bands skew=0:1 --front", "one of");
  refused("--tokens -3", "--tokens");
}

TEST_CASE("the length of a run becomes days, money and energy") {
  const std::string ask = kAsk + "--gpus 8 --training --price 2 --tokens 1B";
  const std::string screen = run_program(ask).out;
  CHECK(contains(screen, "1.00 B tokens"));
  CHECK(contains(screen, "USD"));
  CHECK(contains(screen, "kWh"));
  CHECK(run_program(ask + " --limit time=1us").code == 3);
  CHECK(run_program(ask + " --limit time=30d").code == 0);
}

TEST_CASE("more nodes of a cluster can be asked for") {
  CHECK(contains(run_program(kAsk + "--gpus 256").err, "--nodes 32"));
  const Json answer = json_of(kAsk + "--gpus 256 --nodes 32 --generation");
  CHECK(answer.at("plans").at(0).at("degrees").at("world") == 256);
  CHECK(run_program(kAsk + "--nodes 1000000").code == 2);
}

TEST_CASE("bands cover the range without gaps, and neighbours differ") {
  const Json answer = json_of(kAsk + "--gpus 8 --generation --bands batch=1:64");
  const Json& bands = answer.at("bands");
  REQUIRE(!bands.empty());
  CHECK(bands.front().at("from") == 1);
  CHECK(bands.back().at("to") == 64);
  for (std::size_t i = 1; i < bands.size(); ++i) {
    CHECK(bands[i].at("from").get<double>() >= bands[i - 1].at("to").get<double>() + 1);
    const Json &a = bands[i - 1].at("plan"), &b = bands[i].at("plan");
    CHECK((a.at("degrees") != b.at("degrees") || a.at("moe_layers") != b.at("moe_layers")));
  }
}

TEST_CASE("no best plan of one case has a better worst case than the most robust plan") {
  const Json answer = json_of(kAsk + "--gpus 16 --generation --robust batch=1:64");
  const double worst = answer.at("best").at("worst");
  CHECK(worst >= 1);
  CHECK(answer.at("specialists").size() == answer.at("values").size());
  for (const Json& plan : answer.at("specialists")) {
    if (!plan.at("worst").is_null()) CHECK(plan.at("worst").get<double>() >= worst * 0.999999);
  }
  const Outcome split = run_program(kAsk + "--gpus 8 --training --robust batch=8:64");
  CHECK(split.code == 2);
  CHECK(contains(split.err, "ask for bands"));
}

TEST_CASE("nothing on the front is beaten in time and in tokens a device at once") {
  const Json front = json_of(kAsk + "--generation --batch 16 --front").at("front");
  REQUIRE(front.size() >= 2);
  for (const Json& a : front) {
    for (const Json& b : front) {
      const bool beaten = b.at("time_us") < a.at("time_us") &&
                          b.at("tokens_per_s_per_gpu") > a.at("tokens_per_s_per_gpu");
      CHECK(!beaten);
    }
  }
}

TEST_CASE("what if, and how sure the order of two plans is") {
  const std::string file = scratch_file("asked.json");
  json_of(kAsk + "--gpus 8 --generation -o " + file);
  const std::string explain = "explain " + file + " --profile none ";
  const Json faster = json_of(explain + "--link 2x").at("what_if");
  CHECK(faster.at("same").at("time_us") <= json_of(explain).at("latency_us"));
  CHECK(faster.at("best").at("time_us") <= faster.at("same").at("time_us"));
  const Json more = json_of(explain + "--gpus +8 --skew 1.2 --batch 64").at("what_if");
  CHECK(more.at("same").is_null());
  CHECK(contains(more.at("why_not_same"), "8 ranks"));
  CHECK(more.at("best").at("world") == 16);
  CHECK(run_program(explain + "--gpus -8").code == 2);
  CHECK(run_program(explain + "--link fast").code == 2);
  const Json other = json_of(explain + "--fix tensor=1");
  const double wrong = other.at("order").at("probability_wrong");
  CHECK(wrong >= 0);
  CHECK(wrong <= 0.5);
  const std::string screen = run_program(explain + "--flips --batch 4").out;
  CHECK(contains(screen, "What if --batch 4?"));
  CHECK(contains(screen, "When does the best plan change?"));
}

TEST_CASE("models of the same size, and what can be priced only") {
  const Json shapes = json_of(kAsk + "--gpus 8 --training --architectures").at("architectures");
  REQUIRE(shapes.size() > 1);
  double own = 0;
  for (const Json& one : shapes) {
    if (one.at("model").at("name") == "tiny-pr-moe-4-8") own = one.at("core_parameters");
  }
  REQUIRE(own > 0);
  for (const Json& one : shapes) {
    CHECK(one.at("core_parameters").get<double>() == doctest::Approx(own).epsilon(0.05));
  }
  const Json training = json_of(kAsk + "--gpus 8 --training --priced-only");
  for (const Json& one : training.at("pipelines")) {
    CHECK(one.at("executable") == false);
  }
  const Json generation = json_of(kAsk + "--gpus 8 --generation --priced-only");
  for (const Json& one : generation.at("pools")) {
    CHECK(one.at("executable") == false);
  }
  CHECK(run_program(kAsk + "--priced-only").code == 2);
}
