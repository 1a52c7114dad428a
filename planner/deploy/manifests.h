#pragma once
// Kubernetes resources as JSON, which is YAML too.

#include <string>
#include <vector>

#include "planner/deploy/deploy.h"

namespace imhotep::planner {

struct Deployment {
  const Plan* plan = nullptr;
  int nodes = 1;
  std::string name, image;
  std::vector<std::string> files;  // that pods find in /plan
};

// Training: one job of workers, a pod a node, and a launcher whose end ends all.
[[nodiscard]] std::string job_set(const Deployment& deployment);
// Generation: a leader that launches, and a pod a node.
[[nodiscard]] std::string leader_worker_set(const Deployment& deployment);
// Turns the folder's files into the configuration map and the secret that the pods mount.
[[nodiscard]] std::string kustomization(const Deployment& deployment);

}  // namespace imhotep::planner
