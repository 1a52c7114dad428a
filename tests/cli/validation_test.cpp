// What a user does to learn how wrong predictions are, and to make them less so.

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/json_document.h"
#include "tests/cli/program.h"

namespace imhotep::cli {
namespace {

using Json = nlohmann::json;

Json json_of(const std::string& arguments) {
  const Outcome outcome = run_program(arguments + " --json --quiet");
  CAPTURE(arguments);
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  return Json::parse(outcome.out);
}

Json file_of(const std::string& name) { return Json::parse(read_text_file(name)); }

// A decode step of real kernels on this machine, and what it took.
const std::string& decode_report() {
  static const std::string file = [] {
    std::string name = scratch_file("decode_report.json");
    const Outcome outcome = run_program(
        "bench decode nano-pr-moe-2-8 --device cpu --batch 4 --context 24 --repeats 12 --quiet "
        "--report " +
        name);
    REQUIRE(outcome.code == 0);
    return name;
  }();
  return file;
}

// Elements and microseconds: a rate and a start-up time, then a point that lies elsewhere.
std::string additions(double odd_us) {
  Json profile = {{"schema", "imhotep.profile/1"},
                  {"name", "test"},
                  {"date", "2026-01-01T00:00:00Z"},
                  {"method", "invented"},
                  {"device",
                   {{"name", "Test device"},
                    {"kind", "cpu"},
                    {"memory_bytes", 1073741824},
                    {"memory_bytes_per_us", 10000},
                    {"fp32_flops_per_us", 50000},
                    {"bf16_flops_per_us", 50000}}}};
  Json points = Json::array();
  for (int i = 8; i < 24; ++i) {
    const double elements = std::exp2(i);
    points.push_back({{"key", {elements}}, {"time_us", i == 15 ? odd_us : 1.5 + elements / 1000}});
  }
  profile["tables"] = {
      {{"family", "add"}, {"dtype", "fp32"}, {"keys", {"elements"}}, {"points", points}}};
  return profile.dump();
}

}  // namespace

TEST_CASE("validate prints how wrong a profile is, and gates on it") {
  const std::string good = scratch_file("good.json", additions(1.5 + 32.768));
  const std::string odd = scratch_file("odd.json", additions(400));
  const Json json = json_of("validate " + good);
  REQUIRE(json["families"].size() == 1);
  const Json& family = json["families"][0];
  CHECK(family["family"] == "add");
  CHECK(family["left_out"] == "elements");
  CHECK(family["points"] == 16);
  CHECK(family["median_error"].get<double>() < 0.05);
  CHECK(json_of("validate " + odd)["families"][0]["p90_error"].get<double>() >
        family["p90_error"].get<double>());
  CHECK(run_program("validate " + good).out.find("inside 90 %") != std::string::npos);

  CHECK(run_program("validate " + good + " --fail-over 5% --least-coverage 50%").code == 0);
  const Outcome missed = run_program("validate " + good + " --fail-over 0.00001%");
  CHECK(missed.code == 4);
  CHECK(missed.err.find("add: median error") != std::string::npos);
  CHECK(run_program("validate " + good + " --leave-out add:length").code == 2);
  CHECK(run_program("validate " + good + " --leave-out addition:elements").code == 2);
  CHECK(run_program("validate nobody-measured-this").code == 5);
}

TEST_CASE("bench writes a report of a real step, and compare joins it operation by operation") {
  const Json report = file_of(decode_report());
  CHECK(report["phase"] == "decode");
  CHECK(report["measured_us"].get<double>() > 0);
  CHECK(report["operations"].size() > 10);
  const Json json = json_of("compare " + decode_report());
  CHECK(json["phase"] == "decode");
  double predicted = 0;
  for (const Json& row : json["rows"]) {
    CHECK(row["low_us"].get<double>() <= row["high_us"].get<double>());
    predicted += row["predicted_us"].get<double>();
    if (row["operation"] != "unaccounted") CHECK(row["predicted_us"].get<double>() > 0);
  }
  CHECK(predicted == doctest::Approx(json["predicted_us"].get<double>()).epsilon(0.05));
  CHECK(run_program("compare " + decode_report()).out.find("90 % interval") != std::string::npos);
  CHECK(run_program("bench gate nano-moe-8 --device cpu --report x.json").code == 2);
}

TEST_CASE("a report of a prompt says which experts it met, and its prediction uses that") {
  const std::string name = scratch_file("prompt_report.json");
  const Outcome outcome = run_program(
      "bench prefill nano-pr-moe-2-8 --device cpu --context 24 --repeats 3 --quiet --report " +
      name);
  REQUIRE(outcome.code == 0);
  const Json report = file_of(name);
  REQUIRE(report["expert_load"].size() == report["plan"]["moe_layers"].size());
  for (const Json& layer : report["expert_load"]) {
    double sum = 0;
    for (const Json& share : layer) {
      // 24 tokens: every share is so many of them.
      const double tokens = 24 * share.get<double>();
      CHECK(tokens == doctest::Approx(std::round(tokens)));
      sum += share.get<double>();
    }
    CHECK(sum == doctest::Approx(1));
  }
  // All routes at one expert: fewer weights to read, and validate prices it so.
  Json all_at_one = report;
  for (Json& layer : all_at_one["expert_load"]) {
    for (Json& share : layer) share = 0;
    layer[0] = 1;
  }
  static_cast<void>(scratch_file("at_one.json", all_at_one.dump()));
  const std::string validate =
      "validate " + scratch_file("add.json", additions(34.268)) + " --reports ";
  const Json even = json_of(validate + name);
  const Json one = json_of(validate + scratch_file("at_one.json"));
  CHECK(one["plans"]["steps"][0]["predicted_us"].get<double>() <
        even["plans"]["steps"][0]["predicted_us"].get<double>());
}

TEST_CASE("calibrate --from learns a report, and the next prediction of it is nearer") {
  const std::string start = scratch_file("start.json"), learnt = scratch_file("learnt.json");
  Json empty = Json::parse(additions(34.268));
  const Json local = json_of("clusters");
  for (const Json& cluster : local) {
    if (cluster["name"] == "local") empty["device"]["name"] = cluster["device"]["name"];
  }
  static_cast<void>(scratch_file("start.json", empty.dump()));
  const Json json =
      json_of("calibrate --from " + decode_report() + " --profile " + start + " --out " + learnt);
  const Json& one = json["reports"][0];
  CHECK(one["points"].get<int>() > 5);
  // How near depends on what else the machine did during the step; that it is nearer does not.
  CHECK(std::abs(one["error_after"].get<double>()) < std::abs(one["error_before"].get<double>()));
  const Json again = json_of("validate " + learnt + " --reports " + decode_report());
  CHECK(again["plans"]["points"] == 1);
  CHECK(again["plans"]["median_error"].get<double>() ==
        doctest::Approx(std::abs(one["error_after"].get<double>())).epsilon(1e-6));
  CHECK(file_of(learnt)["notes"].size() == 1);
  CHECK(run_program("calibrate --profile " + start).code == 2);
}

TEST_CASE("a calibration stops when its time is up and goes on from its file") {
  const std::string file = scratch_file("short.json");
  const std::string line = "calibrate --fast --device cpu --ranks 1 --repeats 1 --out " + file;
  const Json first = json_of(line + " --minutes 0.01");
  const auto probes = first["probes"].get<std::size_t>();
  CHECK(file_of(file)["probes"].size() == probes);
  CHECK_FALSE(std::filesystem::exists(file + ".partial"));
  const Json second = json_of(line + " --minutes 0.03 --resume");
  CHECK(second["probes"].get<std::size_t>() >= probes);
  CHECK(second["points"].get<std::size_t>() >= first["points"].get<std::size_t>());

  Json other = file_of(file);
  other["device"]["name"] = "Another device";
  const std::string foreign = scratch_file("foreign.json", other.dump());
  const Outcome refused =
      run_program("calibrate --fast --device cpu --ranks 1 --resume --out " + foreign);
  CHECK(refused.code == 2);
  CHECK(refused.err.find("Another device") != std::string::npos);
}

TEST_CASE("the load of experts that a report counted is priced") {
  const std::string plan = scratch_file("load_plan.json");
  REQUIRE(run_program("plan nano-moe-8 --gpus 4 --training --batch 8 --profile none --fix "
                      "tensor=1,expert=4 -o " +
                      plan)
              .code == 0);
  Json report = file_of(decode_report());
  const auto moe_layers = file_of(plan)["moe_layers"].size();
  report["expert_load"] = Json::array();
  for (std::size_t i = 0; i < moe_layers; ++i) {
    report["expert_load"].push_back({0.65, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05});
  }
  const std::string skewed = scratch_file("skewed.json", report.dump());
  const double even = json_of("simulate " + plan + " --profile none")["step_us"];
  const double load = json_of("simulate " + plan + " --profile none --load " + skewed)["step_us"];
  CHECK(load > 1.02 * even);
  report["expert_load"] = Json::array({{0.5, 0.5}});
  const std::string wrong = scratch_file("wrong_load.json", report.dump());
  CHECK(run_program("simulate " + plan + " --profile none --load " + wrong).code == 2);
}

}  // namespace imhotep::cli
