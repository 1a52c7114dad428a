// imhotep run: the whole loop on this machine, as the commands that a person would type.
//   calibrate (if this machine is unknown) -> plan -> train -> generate -> compare

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/ranks.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/spec/plan.h"
#include "profiles/catalogue.h"
#include "profiles/profile.h"

namespace imhotep::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, data, out, prompt = "In the beginning", fix, device = "auto";
  std::optional<std::int64_t> ranks;
  std::int64_t steps = 300, batch = 8, sequence = 256, max_tokens = 80, seed = 1;
  std::optional<double> learning_rate;
  bool calibrate = false;
};

// The plan lives outside the run folder until training writes it there.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_(fs::temp_directory_path() / fmt::format("imhotep-run-{}", getpid())) {
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string file(const char* name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

class Loop {
 public:
  Loop(const Options& options, const Session& session) : options_(options), session_(session) {}

  int run() {
    const ModelSpec model = profiles::find_model(options_.model);
    if (fs::exists(options_.out) && !fs::is_empty(options_.out)) {
      fail_input("{}: the folder exists and is not empty; choose another --out", options_.out);
    }
    if (!fs::exists(options_.data)) fail_input("{}: no such folder of text", options_.data);
    const std::int64_t sequence = std::min<std::int64_t>(options_.sequence, model.context);
    const std::string plan = temporary_.file("plan.json");
    const auto number = [](std::int64_t n) { return std::to_string(n); };

    const ClusterSpec local = find_cluster(cluster_name());
    const bool gpu = local.device.kind == DeviceKind::Cuda;
    fmt::print(session_.json ? stderr : stdout, "runs on {} {} ({})\n", local.devices(),
               local.device.name, local.name);
    const auto known = profiles::find_profile(local);
    if (options_.calibrate || !known || !known->kernels.empty()) {
      if (const int code = step(
              "calibrate", {"--model", options_.model, "--sequence", number(sequence), "--batch",
                            number(options_.batch), "--fast", "--device", gpu ? "cuda" : "cpu"})) {
        return code;
      }
    }
    std::vector<std::string> words = {
        options_.model, "--training",           "--cluster",  local.name,
        "--batch",      number(options_.batch), "--sequence", number(sequence),
        "--objective",  "throughput",           "-o",         plan};
    if (gpu || options_.ranks) {
      words.insert(words.end(), {"--gpus", number(options_.ranks.value_or(1))});
    }
    if (!options_.fix.empty()) words.insert(words.end(), {"--fix", options_.fix});
    if (const int code = step("plan", words)) return code;
    adjust(plan);
    if (const int code =
            step("train", {plan, "--data", options_.data, "--out", options_.out, "--steps",
                           number(options_.steps), "--seed", number(options_.seed)})) {
      return code;
    }
    if (const int code =
            step("generate", {options_.out, "--prompt", options_.prompt, "--max-tokens",
                              number(options_.max_tokens), "--seed", number(options_.seed)})) {
      return code;
    }
    if (const int code = step("compare", {options_.out + "/report.json"})) return code;
    if (session_.json) fmt::print("{}\n", results_.dump(2));
    return 0;
  }

 private:
  [[nodiscard]] std::string cluster_name() const {
    if (options_.device == "cpu") return "local";
    if (options_.device == "cuda") return kLocalGpu;
    return detect_local_gpus() ? kLocalGpu : "local";
  }

  // A short run of a small model wants a higher learning rate than the paper's long ones: by
  // default 2e-3 at width 256, falling with the width, and a tenth of the steps as warm-up.
  void adjust(const std::string& file) const {
    Plan plan = read_plan(file);
    OptimizerSpec& optimizer = plan.workload.optimizer;
    optimizer.learning_rate = options_.learning_rate.value_or(2e-3 * 256 / plan.model.hidden);
    optimizer.min_learning_rate = optimizer.learning_rate / 20;
    optimizer.warmup_steps = std::max<std::int64_t>(options_.steps / 10, 1);
    write_plan(plan, file);
  }

  // Shows the command, runs it, and keeps its JSON when that is asked for.
  int step(const std::string& verb, const std::vector<std::string>& words) {
    std::string shown = "imhotep " + verb;
    for (const std::string& word : words) {
      shown += word.find(' ') == std::string::npos ? " " + word : " \"" + word + "\"";
    }
    fmt::print(session_.json ? stderr : stdout, "{}$ {}\n", results_.empty() ? "" : "\n", shown);
    std::vector<std::string> arguments = words;
    arguments.insert(arguments.begin(), verb);
    if (session_.quiet) arguments.emplace_back("--quiet");
    if (!session_.json) {
      results_[verb] = nullptr;
      return run_self(1, arguments);
    }
    arguments.emplace_back("--json");
    std::string output;
    const int code = run_self_captured(arguments, output);
    results_[verb] = Json::accept(output) ? Json::parse(output) : Json(output);
    return code;
  }

  const Options& options_;
  const Session& session_;
  TemporaryFolder temporary_;
  Json results_ = Json::object();
};

}  // namespace

Run setup_run(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.required("MODEL", options->model, "catalogue name or model file");
  arguments.required("--data", options->data, "folder of text files");
  arguments.required("--out", options->out, "run folder, made anew");
  arguments.one_of("--device", {"auto", "cpu", "cuda"}, "auto takes a GPU where there is one",
                   [options](const std::string& text) { options->device = text; });
  arguments.integer("--ranks", options->ranks, "ranks; else the planner chooses");
  arguments.integer("--steps", options->steps, "optimizer steps");
  arguments.integer("--batch", options->batch, "sequences a step");
  arguments.integer("--sequence", options->sequence, "tokens a sequence");
  arguments.number("--learning-rate", options->learning_rate, "peak (2e-3 at width 256)");
  arguments.text("--fix", options->fix, "degrees by hand, as for plan");
  arguments.text("--prompt", options->prompt, "text to go on from at the end");
  arguments.integer("--max-tokens", options->max_tokens, "tokens to generate");
  arguments.integer("--seed", options->seed, "of weights, order and draws", 0);
  arguments.flag("--calibrate", options->calibrate, "measure this machine again");
  arguments.example("imhotep run tiny-pr-moe-4-8 --data texts --out run/a");
  return [options](const Session& session) { return Loop(*options, session).run(); };
}

}  // namespace imhotep::cli
