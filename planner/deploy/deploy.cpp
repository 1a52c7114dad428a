#include "planner/deploy/deploy.h"

#include <map>

#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "planner/deploy/manifests.h"
#include "planner/deploy/templates.h"

namespace imhotep::planner {
namespace {

bool trains(const Plan& plan) { return plan.workload.kind == WorkloadKind::Training; }

std::string title_of(const Plan& plan) {
  return fmt::format("{} {} on {}", trains(plan) ? "Trains" : "Runs", plan.model.name,
                     format_items(plan.world, "rank"));
}

int nodes_of(const Plan& plan) { return (plan.world - 1) / plan.ranks_per_node + 1; }

class Folder {
 public:
  Folder(const Plan& plan, const ClusterSpec& cluster, const DeployOptions& options)
      : plan_(plan), cluster_(cluster), options_(options) {
    const int per_node = std::min(plan.ranks_per_node, plan.world);
    values_ = {
        {"TITLE", title_of(plan)},
        {"MODEL", plan.model.name},
        {"NAME", options.name},
        {"IMAGE", options.image},
        {"WORLD", std::to_string(plan.world)},
        {"NODES", std::to_string(nodes_of(plan))},
        {"PER_NODE", std::to_string(per_node)},
        {"OUTPUT", std::to_string(plan.workload.output)},
        {"USAGE", trains(plan) ? "./run.sh [options of imhotep train]; DATA, OUT and STEPS in "
                                 "the environment"
                               : "./run.sh RUN [options of imhotep generate]; PROMPT and "
                                 "TOKENS in the environment"},
        {"GPU_LINE", plan.device == DeviceKind::Cuda
                         ? fmt::format("#SBATCH --gpus-per-node={}\n", per_node)
                         : ""}};
  }

  std::vector<DeployFile> run() {
    add("plan.json", plan_text(plan_));
    add("expected.json", expected());
    add("environment", environment());
    if (trains(plan_)) add("text/sample.txt", sample_text());
    files_.insert(files_.end(), options_.data.begin(), options_.data.end());
    switch (options_.target) {
      case DeployTarget::Mpirun:
        add_scripts();
        break;
      case DeployTarget::Slurm:
        add_slurm();
        break;
      case DeployTarget::Kubernetes:
        add_kubernetes();
        break;
      case DeployTarget::Docker:
        add_scripts();
        add("Dockerfile", filled(kDockerfile));
        add(".dockerignore", "run\nbench\n");
        break;
    }
    add("README.md", readme());
    std::string sums;
    for (const DeployFile& file : files_) sums += sha256(file.text) + "  " + file.path + "\n";
    add("SHA256SUMS", sums);
    return std::move(files_);
  }

 private:
  void add(const std::string& path, const std::string& text, bool executable = false) {
    files_.push_back({.path = path, .text = text, .executable = executable});
  }

  [[nodiscard]] std::string filled(std::string text) const {
    for (const auto& [name, value] : values_) {
      const std::string mark = "@" + name + "@";
      for (std::size_t at = text.find(mark); at != std::string::npos;
           at = text.find(mark, at + value.size())) {
        text.replace(at, mark.size(), value);
      }
    }
    return text;
  }

  [[nodiscard]] std::string task() const {
    return trains(plan_) ? kTrainArguments : kGenerateArguments;
  }

  [[nodiscard]] std::string environment() const {
    std::string text = kEnvironment;
    const std::size_t data = text.find("# The cluster that");
    return options_.data.empty() ? text.substr(0, data) : text;
  }

  std::string bench(const std::string& start) {
    values_["START"] = start;
    return filled(trains(plan_) ? kTrainBench : kGenerateBench);
  }

  void add_scripts() {
    add("run.sh", filled(std::string(kRunHead) + task() + kMpirun), true);
    add("bench.sh", bench("\"$here/run.sh\""), true);
  }

  void add_slurm() {
    add("job.sbatch", filled(std::string(kSlurm) + task() + kSlurmRun), true);
    add("bench.sh", bench("sbatch --wait --chdir=\"$here\" \"$here/job.sbatch\""), true);
  }

  void add_kubernetes() {
    values_["FIRST"] = trains(plan_) ? "0" : "1";
    values_["HOST"] = trains(plan_) ? fmt::format("\"{0}-worker-0-$i.{0}\"", options_.name)
                                    : fmt::format("\"{0}-0-$i.{0}\"", options_.name);
    values_["TASK"] =
        trains(plan_) ? "train /plan/plan.json --data /data/text --out /data/run --steps 20"
                      : "generate /data/run --plan /plan/plan.json --prompt \"In the beginning\"";
    Deployment deployment{.plan = &plan_,
                          .nodes = nodes_of(plan_),
                          .name = options_.name,
                          .image = options_.image,
                          .files = {"plan.json", "environment", "launch.sh"}};
    for (const DeployFile& file : options_.data) deployment.files.push_back(file.path);
    if (trains(plan_)) {
      add("jobset.json", job_set(deployment));
    } else {
      add("leaderworkerset.json", leader_worker_set(deployment));
    }
    add("launch.sh", filled(kLaunch), true);
    add("keys.sh", filled(kKeys), true);
    add("kustomization.yaml", kustomization(deployment));
  }

  [[nodiscard]] std::string expected() const {
    const Prediction& predicted = plan_.predicted;
    Json out = {{"plan_hash", plan_hash(plan_)},
                {"model", plan_.model.name},
                {"cluster", cluster_.name},
                {"ranks", plan_.world},
                {trains(plan_) ? "step_us" : "token_us", json_of(predicted.time_us)}};
    if (!trains(plan_)) out["prefill_us"] = json_of(predicted.prompt_us);
    out["tokens_per_s"] = predicted.tokens_per_s;
    out["memory_bytes_of_fullest_rank"] = predicted.memory_bytes;
    out["cost_per_mtoken"] = predicted.cost_per_mtoken;
    out["profile"] = predicted.profile.empty() ? "roofline" : predicted.profile;
    out["profile_hash"] = predicted.profile_hash;
    return out.dump(2) + "\n";
  }

  // Enough to see the plan run; a text to learn from is the user's.
  [[nodiscard]] static std::string sample_text() {
    std::string text;
    for (int i = 1; i <= 600; ++i) {
      text +=
          fmt::format("Line {} is here so that the plan can be seen running: {} times {} is {}.\n",
                      i, i, i + 7, i * (i + 7));
    }
    return text;
  }

  [[nodiscard]] std::string readme() const {
    const Prediction& predicted = plan_.predicted;
    const auto interval = [](const Estimate& e) {
      return fmt::format("{} ({} to {})", format_time(e.value), format_time(e.low),
                         format_time(e.high));
    };
    std::string text = fmt::format(
        "# {}\n\nPlan {}, made for {}. Written by `imhotep export`.\n\n"
        "| expected | |\n|---|---|\n| {} | {} |\n",
        title_of(plan_), plan_hash(plan_), cluster_.name, trains(plan_) ? "step" : "decode step",
        interval(predicted.time_us));
    if (!trains(plan_)) text += fmt::format("| prompt | {} |\n", interval(predicted.prompt_us));
    text += fmt::format("| tokens a second | {} |\n| memory of the fullest rank | {} |\n",
                        format_count(predicted.tokens_per_s),
                        format_bytes(static_cast<double>(predicted.memory_bytes)));
    text +=
        "\nIntervals are 90 %. `sha256sum -c SHA256SUMS` checks the folder; "
        "`imhotep explain plan.json` says why the plan is as it is.\n\n## To run\n\n";
    text += how_to_run();
    return text;
  }

  [[nodiscard]] std::string how_to_run() const {
    std::string run = trains(plan_)
                          ? "`./run.sh` trains 20 steps on `text/`; `DATA`, `OUT` and `STEPS` "
                            "in the environment choose others, options of `imhotep train` "
                            "may follow.\n"
                          : "`./run.sh RUN` goes on from `PROMPT` with the checkpoint RUN.\n";
    switch (options_.target) {
      case DeployTarget::Mpirun:
        return run + "`HOSTFILE` names several machines. `./bench.sh` measures.\n";
      case DeployTarget::Slurm:
        return "`sbatch job.sbatch" + std::string(trains(plan_) ? "" : " RUN") +
               "` in this folder; `IMHOTEP` names the program, `IMHOTEP_MPI` the plug-in of srun "
               "(pmix). `./bench.sh` submits, waits and compares.\n";
      case DeployTarget::Kubernetes:
        return "Needs " +
               std::string(trains(plan_) ? "JobSet (jobset.x-k8s.io/v1alpha2)"
                                         : "LeaderWorkerSet (leaderworkerset.x-k8s.io/v1)") +
               ", an image with the program, ssh and Open MPI (the Docker export builds one), and "
               "a volume claim `" +
               options_.name +
               "-data` with the data. `./keys.sh`, then `kubectl apply -k .`. The manifests are "
               "checked against the schemas of their resources; they have not been run.\n";
      case DeployTarget::Docker:
        return "`docker build -t " + options_.image + " .`, then `docker run --rm " +
               options_.image + "`. The file has been checked by reading, not by building.\n\n" +
               run;
    }
    return run;
  }

  const Plan& plan_;
  const ClusterSpec& cluster_;
  const DeployOptions& options_;
  std::map<std::string, std::string> values_;
  std::vector<DeployFile> files_;
};

}  // namespace

std::vector<DeployFile> deploy(const Plan& plan, const ClusterSpec& cluster,
                               const DeployOptions& options) {
  return Folder(plan, cluster, options).run();
}

}  // namespace imhotep::planner
