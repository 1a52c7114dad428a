#pragma once
// A folder that runs a plan as it stands: the plan, what starts its ranks, the environment they
// need, the figures that are expected of them, and checksums of all of it.
// Executed by the tests: the mpirun folder. The Slurm folder is executed by scripts/slurm-test.
// Kubernetes manifests are checked against the schemas of their resources, not run.

#include <string>
#include <string_view>
#include <vector>

#include "core/base/enum_names.h"
#include "core/spec/cluster.h"
#include "core/spec/plan.h"

namespace imhotep::planner {

enum class DeployTarget : std::uint8_t { Mpirun, Slurm, Kubernetes, Docker };

struct DeployFile {
  std::string path;  // in the folder
  std::string text;
  bool executable = false;
};

struct DeployOptions {
  DeployTarget target = DeployTarget::Mpirun;
  std::string image = "imhotep:latest";  // Kubernetes and Docker
  std::string name = "imhotep";          // of the job
  std::vector<DeployFile> data;          // cluster, model and profile: data/clusters/NAME.json ...
};

// Requires: plan.predicted filled. The last file is SHA256SUMS, over all others.
[[nodiscard]] std::vector<DeployFile> deploy(const Plan& plan, const ClusterSpec& cluster,
                                             const DeployOptions& options);

// Source: FIPS 180-4. Result: 64 hexadecimal digits.
[[nodiscard]] std::string sha256(std::string_view text);

}  // namespace imhotep::planner

IMHOTEP_ENUM_NAMES(imhotep::planner::DeployTarget,
                   {imhotep::planner::DeployTarget::Mpirun, "mpirun"},
                   {imhotep::planner::DeployTarget::Slurm, "slurm"},
                   {imhotep::planner::DeployTarget::Kubernetes, "kubernetes"},
                   {imhotep::planner::DeployTarget::Docker, "docker"})
