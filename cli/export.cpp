// imhotep export: a folder that runs a plan.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/plan_file.h"
#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "core/base/json_fields.h"
#include "planner/deploy/deploy.h"

namespace imhotep::cli {
namespace {

namespace fs = std::filesystem;
using planner::DeployFile;
using planner::DeployTarget;

struct Options {
  std::string plan, out, cluster, profile, name = "imhotep", image = "imhotep:latest";
  std::optional<DeployTarget> target;
  bool overwrite = false;
};

void write(const fs::path& folder, const DeployFile& file) {
  const fs::path path = folder / file.path;
  fs::create_directories(path.parent_path());
  write_text_file(path.string(), file.text);
  if (file.executable && ::chmod(path.c_str(), 0755) != 0) fail("{}: chmod failed", path.string());
}

// Files that the ranks look up by the plan's names: its cluster, its model and the prices.
std::vector<DeployFile> data_of(const Plan& plan, const Judge& judge, const fs::path& folder) {
  if (plan.cluster.empty() || plan.cluster == "local") return {};
  std::vector<DeployFile> files;
  const auto keep = [&](const std::string& path, const auto& write_to) {
    const fs::path file = folder / path;
    fs::create_directories(file.parent_path());
    write_to(file.string());
    files.push_back({.path = path, .text = read_text_file(file.string())});
  };
  keep("data/clusters/" + judge.cluster.name + ".json",
       [&](const std::string& file) { write_cluster(judge.cluster, file); });
  keep("data/models/" + plan.model.name + ".json",
       [&](const std::string& file) { write_model(plan.model, file); });
  if (judge.profile) {
    keep("data/measured/" + judge.profile->name + ".json", [&](const std::string& file) {
      write_text_file(file, profiles::profile_text(*judge.profile));
    });
  }
  return files;
}

// The folder to make: beside its place until it is whole, so that a full disk leaves nothing
// behind. One that exists already is written into.
class NewFolder {
 public:
  NewFolder(const std::string& name, bool overwrite) : name_(fs::path(name).lexically_normal()) {
    if (!name_.has_filename()) name_ = name_.parent_path();  // it ended in a slash
    path_ = name_;
    const bool exists = fs::exists(name_);
    if (exists && !overwrite) fail_input("{}: exists already; --overwrite writes into it", name);
    if (!exists) path_ += fmt::format(".tmp{}", getpid());
    std::error_code error;
    fs::create_directories(path_, error);
    if (error) fail("{}: cannot be made: {}", name, error.message());
  }
  ~NewFolder() {
    std::error_code ignored;
    if (path_ != name_) fs::remove_all(path_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }
  void keep() {
    if (path_ == name_) return;
    std::error_code error;
    fs::rename(path_, name_, error);
    if (error) fail("{}: cannot be made: {}", name_.string(), error.message());
    path_ = name_;
  }

 private:
  fs::path name_, path_;
};

// The image of the Docker folder holds this very program.
void add_program(const fs::path& folder) {
  std::error_code error;
  fs::copy_file(fs::read_symlink("/proc/self/exe"), folder / "imhotep",
                fs::copy_options::overwrite_existing, error);
  if (error) fail("{}: cannot copy this program: {}", folder.string(), error.message());
}

int run_export(const Options& options, const Session& session) {
  if (!options.target) fail_input("--to: expected mpirun, slurm, kubernetes or docker");
  Plan plan = read_plan_argument(options.plan);
  if (!plan.executable) {
    fail_input("{}: this plan can be priced but not run (executable is false)", options.plan);
  }
  const Judge judge = judge_for(plan, options.cluster, options.profile);
  const std::string hash = plan_hash(plan);
  if (plan.predicted.time_us.value <= 0) {
    plan.predicted = judge.simulator.predict(plan);
  }
  NewFolder made(options.out, options.overwrite);
  const fs::path& folder = made.path();
  const std::vector<DeployFile> files = planner::deploy(plan, judge.cluster,
                                                        {.target = *options.target,
                                                         .image = options.image,
                                                         .name = options.name,
                                                         .data = data_of(plan, judge, folder)});
  for (const DeployFile& file : files) write(folder, file);
  if (*options.target == DeployTarget::Docker) add_program(folder);
  made.keep();
  if (session.json) {
    Json out = {{"folder", options.out}, {"to", name_of(*options.target)}, {"plan_hash", hash}};
    out["files"] = Json::array();
    for (const DeployFile& file : files) out["files"].push_back(file.path);
    std::puts(out.dump(2).c_str());
    return 0;
  }
  fmt::print("Plan {} for {} in {}:\n", hash, name_of(*options.target), options.out);
  for (const DeployFile& file : files) fmt::print("  {}\n", file.path);
  fmt::print("README.md there says how to run it.\n");
  return 0;
}

}  // namespace

Run setup_export(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.required("PLAN", options->plan, "a plan file, or a folder that was exported");
  arguments.choice("--to", options->target, "what starts the ranks");
  arguments.required("-o,--out", options->out, "folder to make");
  arguments.text("--name", options->name, "of the job");
  arguments.text("--image", options->image, "Kubernetes and Docker: the image");
  arguments.text("--cluster", options->cluster, "another cluster than the plan's");
  arguments.text("--profile", options->profile, "a profile's name or file; none: roofline");
  arguments.flag("--overwrite", options->overwrite, "write into a folder that exists");
  arguments.example("imhotep export plan.json --to mpirun -o job && job/run.sh");
  arguments.example("imhotep export plan.json --to slurm -o job && cd job && sbatch job.sbatch");
  return [options](const Session& session) { return run_export(*options, session); };
}

}  // namespace imhotep::cli
