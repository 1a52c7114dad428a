// The planning commands: the names of their JSON, and what they say to people.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/spec/plan.h"
#include "tests/cli/program.h"

using namespace imhotep;
using namespace imhotep::cli;
using Json = nlohmann::json;

namespace {

Json json_of(const std::string& arguments, int code = 0, const std::string& input = "") {
  CAPTURE(arguments);
  const Outcome outcome = run_program(arguments + " --json", "", input);
  CHECK_MESSAGE(outcome.code == code, outcome.err);
  return Json::parse(outcome.out);
}

void check_plan_shape(const Json& plan) {
  for (const char* key :
       {"world", "tensor", "data", "zero", "micro_batch", "accumulation", "recompute"}) {
    CHECK(plan.at("degrees").contains(key));
  }
  for (const Json& moe : plan.at("moe_layers")) {
    const int product =
        moe.at("expert").get<int>() * moe.at("slicing").get<int>() * moe.at("replica").get<int>();
    CHECK(product == plan.at("degrees").at("world"));
    CHECK(moe.at("exchange").is_string());
  }
  const Json& time = plan.at("predicted").at("time_us");
  CHECK(time.at("low") <= time.at("value"));
  CHECK(time.at("value") <= time.at("high"));
  CHECK(plan.at("predicted").at("memory_bytes").get<std::int64_t>() > 0);
  CHECK(plan.at("reasons").empty() == plan.at("feasible").get<bool>());
}

}  // namespace

TEST_CASE("models lists name, layers, hidden and both sizes") {
  const Json models = json_of("models");
  REQUIRE(models.is_array());
  REQUIRE(models.size() > 20);
  for (const Json& model : models) {
    for (const char* key : {"layers", "hidden", "parameters", "core_parameters"}) {
      CHECK(model.at(key).is_number_integer());
    }
    CHECK(model.at("name").is_string());
  }
  const Json one = json_of("models 350m-pr-moe-32-64");
  REQUIRE(one.size() == 1);
  CHECK(one[0].at("layers") == 24);
  CHECK(one[0].at("hidden") == 1024);
}

TEST_CASE("clusters and profiles are lists, and this machine is among the clusters") {
  const Json clusters = json_of("clusters");
  CHECK(std::any_of(clusters.begin(), clusters.end(),
                    [](const Json& cluster) { return cluster.at("name") == "local"; }));
  for (const Json& cluster : clusters) CHECK(cluster.at("devices").get<int>() >= 1);
  CHECK(json_of("profiles").is_array());
}

TEST_CASE("plan answers with plans, best first, and the figures of the search") {
  const Json answer = json_of("plan tiny-pr-moe-4-8 --cluster dgx-h100 --gpus 8 --top 7");
  const Json& plans = answer.at("plans");
  REQUIRE(plans.size() >= 7);
  for (const Json& plan : plans) check_plan_shape(plan);
  for (std::size_t i = 0; i < 7; ++i) CHECK(plans[i].at("feasible") == true);
  for (std::size_t i = 1; i < 7; ++i) {
    CHECK(plans[i - 1].at("predicted").at("time_us").at("value") <=
          plans[i].at("predicted").at("time_us").at("value"));
  }
  const Json& search = answer.at("search");
  // Numbers up to 2^53, decimal strings beyond: both are counts of plans whose layers choose alone.
  const auto count = [](const Json& value) {
    return value.is_string() ? std::stold(value.get<std::string>()) : value.get<long double>();
  };
  CHECK(count(search.at("evaluated")) + count(search.at("pruned")) ==
        doctest::Approx(static_cast<double>(count(search.at("enumerated")))));
  const Json& alike = search.at("alike");
  CHECK(alike.at("evaluated").get<int>() + alike.at("pruned").get<int>() ==
        alike.at("enumerated").get<int>());
  CHECK(search.at("proved").is_boolean());
  CHECK(search.at("seconds").get<double>() > 0);
  CHECK(answer.at("request").at("model") == "tiny-pr-moe-4-8");
}

TEST_CASE("every objective ranks by its own figure") {
  const std::string request =
      "plan tiny-pr-moe-4-8 --cluster dgx-h100 --batch 8 --sequence 128 --top 3 --objective ";
  const auto best = [&](const char* objective) {
    return json_of(request + objective).at("plans").at(0);
  };
  const auto time = [](const Json& plan) {
    return plan.at("predicted").at("time_us").at("value").get<double>();
  };
  const auto world = [](const Json& plan) { return plan.at("degrees").at("world").get<int>(); };
  const Json latency = best("latency"), cost = best("cost"), gpus = best("gpus");
  CHECK(time(latency) <= time(cost));
  CHECK(time(latency) <= time(gpus));
  CHECK(time(cost) * world(cost) <= time(latency) * world(latency));
  CHECK(world(gpus) == 1);
}

TEST_CASE("latency asks for generation, sizes decide by themselves, and defaults are marked") {
  const auto kind = [](const std::string& options) {
    return json_of("plan nano-moe-8 --gpus 1 " + options)
        .at("request")
        .at("workload")
        .at("kind")
        .get<std::string>();
  };
  CHECK(kind("") == "training");
  CHECK(kind("--objective latency") == "generation");
  CHECK(kind("--prompt 4") == "generation");
  CHECK(kind("--generation") == "generation");
  CHECK(kind("--training --objective latency") == "training");
  CHECK(kind("--objective cost") == "training");
  const std::string screen = run_program("plan nano-moe-8 --gpus 1").out;
  CHECK(contains(screen, "fp32 (default)"));
  CHECK(contains(screen, "throughput (default)"));
}

TEST_CASE("a default batch gives every rank its share") {
  const auto batch = [](const std::string& gpus) {
    return json_of("plan nano-dense --gpus " + gpus)
        .at("request")
        .at("workload")
        .at("global_batch");
  };
  CHECK(batch("3") == 9);
  CHECK(batch("4") == 8);
}

TEST_CASE("human numbers are read") {
  const Json answer = json_of("plan 350m --cluster h100-x1 --gpus 1 --batch 1k --sequence 2Ki");
  CHECK(answer.at("request").at("workload").at("global_batch") == 1000);
  CHECK(answer.at("request").at("workload").at("sequence") == 2048);
}

TEST_CASE("fixed degrees hold, and the plan written is a plan file that can be read") {
  const std::string file = scratch_file("fixed.json");
  const Json answer =
      json_of("plan tiny-pr-moe-4-8 --gpus 8 --fix tensor=2,expert=4x4,8x8 -o " + file);
  const Json& best = answer.at("plans").at(0);
  CHECK(best.at("degrees").at("tensor") == 2);
  CHECK(best.at("degrees").at("data") == 4);
  CHECK(best.at("moe_layers").at(0).at("expert") == 4);
  CHECK(best.at("moe_layers").back().at("expert") == 8);
  const Plan plan = read_plan(file);
  CHECK(plan.world == 8);
  CHECK(plan.tensor == 2);
  CHECK(check_degrees(plan).feasible);
  CHECK(plan.predicted.time_us.value ==
        doctest::Approx(best.at("predicted").at("time_us").at("value").get<double>()));
  CHECK(plan_hash(parse_plan(answer.at("plan").dump(), "answer")) == plan_hash(plan));
}

TEST_CASE("a model that does not fit exits with 3, bytes, rank, and what would fit") {
  const Outcome outcome =
      run_program("plan 1.3b-pr-moe-64-128 --generation --cluster h100-x1 --gpus 1 --dtype fp32");
  CHECK(outcome.code == 3);
  CHECK(contains(outcome.out, "rank 0 of 1 needs"));
  CHECK(contains(outcome.out, "bytes"));
  CHECK(contains(outcome.out, "80.0 GB"));
  CHECK(contains(outcome.out, "--dtype bf16"));
  const Json answer =
      json_of("plan 1.3b-pr-moe-64-128 --generation --cluster h100-x1 --gpus 1 --dtype fp32", 3);
  CHECK(answer.at("error").at("code") == 3);
  CHECK(contains(answer.at("error").at("message"), "rank 0 of 1"));
  REQUIRE(!answer.at("plans").empty());
  for (const Json& plan : answer.at("plans")) {
    check_plan_shape(plan);
    CHECK(plan.at("feasible") == false);
  }
  CHECK(!answer.at("relaxations").empty());
  const Json hopeless = json_of("plan 175b --cluster h100-x1 --gpus 1", 3);
  CHECK(hopeless.at("search").at("rejected").at("weights") ==
        hopeless.at("search").at("evaluated"));
}

TEST_CASE("the screen shows request, plan, rivals, rejections and what to type next") {
  const std::string screen =
      run_program("plan 1.3b-pr-moe-64-128 --cluster azure-nd-a100-v4 --gpus 16 --top 3").out;
  for (const char* part :
       {"1.3b-pr-moe-64-128 on azure-nd-a100-v4, 16 devices", "objective", "Best plan",
        "64 experts x 10 layers", "128 experts x 2 layers", "tensor x data",
        "expert x slicing x replica", "Rejected:", "Looked at", "pruned", "Next:",
        "imhotep plan 1.3b-pr-moe-64-128 --cluster azure-nd-a100-v4 --gpus 16 -o plan.json"}) {
    CHECK_MESSAGE(contains(screen, part), part);
  }
}

TEST_CASE("simulate prices a training plan operation by operation") {
  const std::string file = scratch_file("train.json");
  const Json answer = json_of("plan nano-pr-moe-2-8 --gpus 4 --fix tensor=2 -o " + file);
  const Json result = json_of("simulate " + file);
  CHECK(result.at("step_us").get<double>() ==
        doctest::Approx(
            answer.at("plans").at(0).at("predicted").at("time_us").at("value").get<double>()));
  CHECK(result.at("memory_bytes") == answer.at("plans").at(0).at("predicted").at("memory_bytes"));
  std::int64_t memory = 0;
  for (const Json& bytes : result.at("memory")) memory += bytes.get<std::int64_t>();
  CHECK(memory == result.at("memory_bytes").get<std::int64_t>());
  double sum = result.at("overhead_us").get<double>();
  for (const Json& operation : result.at("operations")) {
    sum += operation.at("time_us").get<double>();
    CHECK(operation.at("low_us") <= operation.at("time_us"));
    CHECK(operation.at("operation").is_string());
  }
  CHECK(sum >= result.at("step_us").get<double>() * (1 - 1e-9));
  CHECK(contains(run_program("simulate " + file).out, "operation"));
}

TEST_CASE("simulate prices generation, writes a trace, and takes a plan from a pipe") {
  const Outcome planned =
      run_program("plan nano-moe-8 --cluster dgx-h100 --gpus 2 --generation --json");
  const std::string trace = scratch_file("trace.json");
  const Json result = json_of("simulate - --trace " + trace, 0, planned.out);
  CHECK(result.at("latency_us").get<double>() > 0);
  CHECK(result.at("prompt_us").get<double>() > 0);
  CHECK(!result.contains("step_us"));
  std::ifstream stream(trace);
  const Json events = Json::parse(stream);
  CHECK(events.at("traceEvents").size() > 20);
}

TEST_CASE("simulate says of a plan that it does not fit, and prices it all the same") {
  const std::string file = scratch_file("large.json");
  json_of("plan 6.7b --cluster h200-x2 --gpus 1 --generation --dtype fp32 --batch 1 -o " + file);
  const Outcome outcome = run_program("simulate " + file + " --cluster azure-nd-a100-v4 --json");
  CHECK(outcome.code == 0);
  const Json large = Json::parse(outcome.out);
  CHECK(large.at("feasible") == (large.at("memory_bytes").get<std::int64_t>() <= 40'000'000'000));
  Plan plan = read_plan(file);
  plan.workload.global_batch = 4096;
  write_plan(plan, file);
  const Outcome over = run_program("simulate " + file);
  CHECK(over.code == 0);
  CHECK(contains(over.err, "does not fit: rank 0 of 1 needs"));
}

TEST_CASE("explain names what binds, where the time goes, and the difference to another plan") {
  const std::string first = scratch_file("first.json"), second = scratch_file("second.json");
  const std::string cluster = scratch_file("cluster.json");  // detected once
  write_cluster(detect_local_cluster(), cluster);
  const std::string ask = "plan tiny-pr-moe-4-8 --gpus 4 --cluster " + cluster;
  const std::string explain = "explain --cluster " + cluster + " ";
  json_of(ask + " --fix tensor=1 -o " + first);
  json_of(ask + " --fix tensor=4 -o " + second);
  const Json alone = json_of(explain + first);
  CHECK(alone.at("binds").get<std::string>().find("bound by") != std::string::npos);
  CHECK(alone.at("classes").size() >= 5);
  CHECK(alone.at("memory_limit_bytes").get<std::int64_t>() > 0);
  const Json both = json_of(explain + first + " " + second);
  CHECK(both.at("against").at("step_us") == json_of(explain + second).at("step_us"));
  CHECK(!both.at("differences").empty());
  const Json fixed = json_of(explain + first + " --fix tensor=4");
  CHECK(fixed.at("against").at("step_us") == both.at("against").at("step_us"));
  const std::string screen = run_program(explain + first + " --fix tensor=4").out;
  CHECK(contains(screen, "The other plan takes"));
  CHECK(contains(screen, "projection_sum"));
  CHECK(run_program(explain + first + " " + second + " --fix tensor=4").code == 2);
}

TEST_CASE("explain finds degrees that fit where those of the plan do not") {
  const std::string file = scratch_file("unfit.json");
  json_of("plan 1.3b-moe-128 --cluster azure-nd-a100-v4 --gpus 8 --generation --top 1", 0);
  const Json answer = json_of(
      "plan 1.3b-moe-128 --cluster azure-nd-a100-v4 --gpus 8 --generation --fix expert=1,slicing=1",
      3);
  CHECK(answer.at("relaxations").at(0).at("change").is_string());
  bool without = false;
  for (const Json& relaxation : answer.at("relaxations")) {
    without = without || relaxation.at("change") == "without --fix";
    check_plan_shape(relaxation.at("plan"));
  }
  CHECK(without);
}

TEST_CASE("a profile of another device or of others' kernels is said to be a transfer") {
  const std::string ask =
      "plan 350m-moe-32 --cluster azure-nd-a100-v4 --gpus 8 --generation --top 1";
  CHECK(contains(json_of(ask).at("request").at("prices"), "transferred from public tables"));
  const Json other = json_of(ask + " --profile dgx-h100");
  CHECK(contains(other.at("request").at("prices"), "transferred from NVIDIA H100"));
  CHECK(contains(run_program(ask + " --profile dgx-h100").out, "transferred from NVIDIA H100"));
  const std::string plan = scratch_file("transferred.json");
  REQUIRE(run_program(ask + " -o " + plan).code == 0);
  for (const std::string& profile : {std::string(), std::string(" --profile dgx-h100")}) {
    const Json priced = json_of("simulate " + plan + profile);
    for (const Json& operation : priced.at("operations")) {
      CAPTURE(operation.dump());
      if (operation.at("time_us") == 0) continue;  // a group of one
      CHECK(operation.at("source") != "measured");
    }
  }
}

TEST_CASE("the style of another system is priced, not run, and a plan remembers it") {
  const std::string ask =
      "plan 350m-moe-32 --cluster azure-nd-a100-v4 --gpus 8 --generation --top 1";
  const std::string plan = scratch_file("styled.json");
  const Json own = json_of(ask), asked = json_of(ask + " --style pytorch -o " + plan);
  CHECK(contains(asked.at("request").at("prices"), "in the style of pytorch"));
  CHECK(asked.at("plan").at("executable") == false);
  CHECK(asked.at("plan").at("style") == "pytorch");
  CHECK(own.at("plan").at("style") == "imhotep");
  const Json eager = json_of("simulate " + plan);
  const Json ours = json_of("simulate " + plan + " --style imhotep");
  const Json fused = json_of("simulate " + plan + " --style deepspeed-inference");
  CHECK(eager.at("executable") == false);
  CHECK(eager.at("latency_us") > fused.at("latency_us"));
  CHECK(fused.at("latency_us") > ours.at("latency_us"));
  CHECK(run_program("train " + plan + " --data nowhere --out nowhere").code != 0);
  CHECK(run_program("simulate " + plan + " --style nobody").code == 2);
}
