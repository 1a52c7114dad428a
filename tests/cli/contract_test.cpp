// What every command promises: exit codes, streams, messages, help.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "core/base/fail.h"
#include "tests/cli/program.h"

using namespace imhotep::cli;
using Json = nlohmann::json;

namespace {

// The verbs that the overview lists.
std::vector<std::string> verbs() {
  std::vector<std::string> found;
  for (const std::string& line : lines_of(run_program("").out)) {
    if (line.starts_with("  ") && !line.starts_with("  imhotep") && line[2] != ' ') {
      found.push_back(line.substr(2, line.find(' ', 2) - 2));
    }
  }
  return found;
}

void check_error(const std::string& arguments, int code, const std::string& part) {
  CAPTURE(arguments);
  const Outcome plain = run_program(arguments);
  CHECK(plain.code == code);
  CHECK(plain.out.empty());
  CHECK_MESSAGE(contains(plain.err, part), plain.err);
  CHECK(lines_of(plain.err).size() <= 3);
  const Outcome json = run_program(arguments + " --json");
  CHECK(json.code == code);
  const Json body = Json::parse(json.out);
  CHECK(body.at("error").at("code") == code);
  CHECK_MESSAGE(contains(body.at("error").at("message"), part), json.out);
}

}  // namespace

TEST_CASE("without arguments there are at most 25 lines with three examples, and exit code 2") {
  const Outcome outcome = run_program("");
  CHECK(outcome.code == 2);
  const std::vector<std::string> lines = lines_of(outcome.out + outcome.err);
  CHECK(lines.size() <= 25);
  CHECK(std::count_if(lines.begin(), lines.end(),
                      [](const std::string& line) { return line.starts_with("  imhotep "); }) == 3);
  CHECK(run_program("--help").code == 0);
  CHECK(run_program("help").out == outcome.out);
  CHECK(run_program("--version").out.starts_with("imhotep "));
}

TEST_CASE("every command has a help of one screen with an example") {
  const std::vector<std::string> known = verbs();
  REQUIRE(known.size() >= 6);
  for (const std::string& verb : known) {
    CAPTURE(verb);
    const Outcome outcome = run_program(verb + " --help");
    CHECK(outcome.code == 0);
    CHECK(outcome.err.empty());
    const std::vector<std::string> lines = lines_of(outcome.out);
    CHECK(lines.size() <= 48);
    for (const std::string& line : lines) CHECK_MESSAGE(display_width(line) <= 100, line);
    CHECK(contains(outcome.out, "imhotep " + verb + " "));
    CHECK(contains(outcome.out, "Example:"));
    CHECK(contains(outcome.out, "--json"));
    CHECK(run_program("help " + verb).out == outcome.out);
  }
}

TEST_CASE("mistyped commands and options name the right one") {
  check_error("modles", 2, "did you mean \"models\"?");
  check_error("zzzzzzzzz", 2, "unknown command \"zzzzzzzzz\"");
  check_error("plan nano-dense --gpu 2", 2, "did you mean --gpus?");
  check_error("plan nano-dense --objectiv=latency", 2, "did you mean --objective?");
  check_error("plan nano-dens", 2, "nano-dense");
  check_error("plan nano-dense --cluster dgx-h10", 2, "dgx-h100");
  check_error("plan nano-dense --objective fast", 2, "latency|throughput|cost|gpus");
  check_error("plan nano-dense --capacity 0", 2, "expected numbers >= 0.01, none, or any");
  check_error("plan nano-dense --fix tensr=2", 2, "did you mean \"tensor\"?");
  check_error("models nano-dense nano-moe-8", 2, "unexpected argument");
  check_error("bench trainin nano-dense", 2, "did you mean training?");
  check_error("validate dgx-h10", 5, "did you mean \"dgx-h100\"?");
}

TEST_CASE("wrong usage exits with 2 and says what was expected") {
  check_error("plan", 2, "MODEL");
  check_error("plan nano-dense --gpus two", 2, "--gpus");
  check_error("plan nano-dense --gpus 0", 2, ">= 1");
  check_error("plan nano-dense --gpus 1.5", 2, "whole number");
  check_error("plan nano-dense --price much", 2, "--price: expected a number");
  check_error("plan nano-dense --gpus", 2, "--gpus");
  check_error("plan nano-dense --training --generation", 2, "contradict");
  check_error("plan nano-dense --cluster h100-x1 --gpus 2", 2, "possible: 1 to 1");
  check_error("plan nano-dense --gpus 2 --fix tensor=3", 2, "possible: 1, 2");
  check_error("plan nano-dense --sequence 4096", 2, "context");
  check_error("--nonsense", 2, "expected a command");
  check_error("compare /nonexistent/report.json --fail-over x", 2, "expected a share such as 10%");
  check_error("simulate /nonexistent/plan.json", 2, "/nonexistent/plan.json");
}

TEST_CASE("broken input files exit with 2 and point at the field") {
  const auto model = [](const std::string& fields) {
    return scratch_file("model.json", "{\"schema\": \"imhotep.model/1\",\n" + fields + "}");
  };
  const std::string good = "\"name\": \"m\", \"layers\": 2, \"hidden\": 32,\n\"heads\": 2";
  CHECK(run_program("plan " + model(good) + " --gpus 1").code == 0);
  check_error("plan " + model(good + ",\n\"hiden\": 3"), 2, "hidden");
  check_error("plan " + model("\"name\": \"m\", \"layers\": \"2\", \"hidden\": 32, \"heads\": 2"),
              2, "$.layers");
  check_error("plan " + model("\"name\": \"m\", \"hidden\": 32, \"heads\": 2"), 2, "layers");
  check_error("plan " + scratch_file("model.json", "{\"schema\": \"imhotep.mod"), 2, "model.json");
  check_error("plan " + scratch_file("model.json", ""), 2, "model.json");
  check_error("simulate " + scratch_file("plan.json", "[]"), 2, "plan.json");
  check_error("explain " + scratch_file("plan.json", "{\"schema\": \"imhotep.plan/9\"}"), 2,
              "imhotep.plan/1");
}

TEST_CASE("what fails while running exits with 1, what is missing with 5") {
  check_error("bench serve http://127.0.0.1:1 --rate 1 --requests 1", 1, "Connection refused");
  check_error("plan nano-dense --gpus 1 --profile no-such-profile", 5, "no-such-profile");
  const Outcome moved = run_program("models", "IMHOTEP_DATA=/nonexistent");
  CHECK(moved.code == 2);
  CHECK(contains(moved.err, "/nonexistent"));
}

TEST_CASE("a file that cannot be written is found out before the work") {
  const std::string folder = std::filesystem::path(scratch_file("here")).parent_path().string();
  for (const std::string& file : {folder, folder + "/none/file"}) {
    check_error(
        "plan nano-dense --gpus 1 -o " + file, 2,
        file == folder ? folder + ": is a folder" : "there is no folder " + folder + "/none");
    CHECK(run_program("calibrate --fast --ranks 1 -o " + file).code == 2);
    CHECK(run_program("bench training nano-dense --device cpu --report " + file).code == 2);
  }
}

TEST_CASE("a device is not replaced by a file") {
  check_error("plan nano-dense --gpus 1 -o /dev/null", 2, "is a device or a pipe");
}

TEST_CASE("benchmarks refuse what a model or the ranks cannot hold") {
  const std::string device = " --device cpu";
  check_error("bench decode nano-moe-8 --context 64" + device, 2, "at most 63 here");
  check_error("bench prefill nano-moe-8 --context 65" + device, 2, "at most 64 here");
  check_error("bench training nano-moe-8 --fix tensor=3" + device, 2, "does not divide 1 rank");
}

TEST_CASE("signals stop a search with the best so far") {
  // Eight kinds of layers have some 10^17 plans: no search finishes that.
  const std::string model = scratch_file(
      "eight.json",
      R"({"schema": "imhotep.model/1", "name": "eight", "layers": 16, "hidden": 1024, "heads": 16,
          "experts": "4x1,8x1,16x1,32x1,64x1,128x1,256x1,512x1"})");
  const std::string arguments =
      "plan " + model + " --cluster azure-nd-a100-v4 --gpus 128 --training --json";
  const Outcome interrupted = run_program(arguments, "timeout --preserve-status -s INT 3");
  CHECK(interrupted.code == 130);
  const Json body = Json::parse(interrupted.out);
  CHECK(body.at("search").at("interrupted") == true);
  REQUIRE(body.at("search").at("enumerated").is_string());  // beyond 2^53
  CHECK(body.at("search").at("enumerated").get<std::string>().size() >= 16);
  CHECK(body.at("search").at("evaluated").is_number_integer());
  REQUIRE(!body.at("plans").empty());
  CHECK(body.at("plans").at(0).at("feasible") == true);
  CHECK(run_program(arguments, "timeout --foreground --preserve-status -s TERM 3").code == 143);
}

#ifndef IMHOTEP_SANITIZED  // there a probe takes a minute
TEST_CASE("signals stop a calibration after the probe that runs") {
  const std::string file = scratch_file("stopped.json");
  const Outcome stopped =
      run_program("calibrate --device cpu --ranks 1 --model nano-dense --json -o " + file,
                  "timeout --preserve-status -s INT 2");
  CHECK(stopped.code == 130);
  CHECK(Json::parse(stopped.out).at("error").at("code") == 130);
  CHECK(contains(stopped.err, "--resume goes on from there"));
  CHECK(std::filesystem::exists(file + ".partial"));
  CHECK(!std::filesystem::exists(file));
}

TEST_CASE("a signal to run alone reaches the command that it runs") {
  const Outcome stopped =
      run_program("run nano-moe-8 --calibrate --data " IMHOTEP_SOURCE_DIR "/docs --out " +
                      scratch_file("never"),
                  "timeout --foreground --preserve-status -s TERM 2");
  CHECK(stopped.code == 143);
  CHECK(contains(stopped.err, "--resume goes on from there"));
}
#endif

TEST_CASE("signals stop a benchmark after the step that runs") {
  const Outcome stopped = run_program("bench training nano-dense --device cpu --repeats 1000000",
                                      "timeout --preserve-status -s TERM 2");
  CHECK(stopped.code == 143);
  CHECK(contains(stopped.err, "of 1000003 steps"));
#ifndef IMHOTEP_SANITIZED  // what MPI leaves behind ends a rank with another code there
  const Outcome ranks =
      run_program("bench training nano-dense --device cpu --repeats 1000000 --ranks 2",
                  "timeout --foreground --preserve-status -s INT 4");
  CHECK(ranks.code == 130);
  CHECK(contains(ranks.err, "of 1000003 steps"));
#endif
}

TEST_CASE("pipes carry no terminal codes unless they are asked for") {
  const std::string plan = "plan nano-moe-8 --gpus 2";
  for (const std::string& arguments :
       {std::string(""), std::string("models"), std::string("clusters"), plan,
        std::string("plan --help"), std::string("plan nano-dense --gpu 2")}) {
    const Outcome outcome = run_program(arguments);
    CHECK(!contains(outcome.out + outcome.err, "\033"));
  }
  CHECK(contains(run_program(plan + " --color always").out, "\033[1m"));
  CHECK(!contains(run_program(plan + " --color never").out, "\033"));
}

TEST_CASE("results go to stdout alone") {
  const Outcome outcome = run_program("models");
  CHECK(outcome.code == 0);
  CHECK(outcome.err.empty());
  CHECK(contains(outcome.out, "1.3b-pr-moe-64-128"));
}
