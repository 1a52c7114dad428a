#include "planner/deploy/manifests.h"

#include <algorithm>

#include "core/base/fail.h"
#include "core/base/json_fields.h"

namespace imhotep::planner {
namespace {

int per_node(const Plan& plan) { return std::min(plan.ranks_per_node, plan.world); }

// One pod: `role` as launch.sh takes it.
Json pod(const Deployment& deployment, const std::string& role) {
  const Plan& plan = *deployment.plan;
  Json items = Json::array();  // keys of a configuration map cannot name folders
  for (std::size_t i = 0; i < deployment.files.size(); ++i) {
    items.push_back({{"key", fmt::format("file-{}", i)}, {"path", deployment.files[i]}});
  }
  Json container = {{"name", role},
                    {"image", deployment.image},
                    {"command", {"bash", "/plan/launch.sh", role}},
                    {"volumeMounts",
                     {{{"name", "plan"}, {"mountPath", "/plan"}},
                      {{"name", "keys"}, {"mountPath", "/keys"}},
                      {{"name", "data"}, {"mountPath", "/data"}},
                      {{"name", "memory"}, {"mountPath", "/dev/shm"}}}}};
  if (role == "worker") {
    container["ports"] = {{{"containerPort", 2222}, {"name", "ssh"}}};
    const std::string amount = std::to_string(per_node(plan));
    const char* resource = plan.device == DeviceKind::Cuda ? "nvidia.com/gpu" : "cpu";
    container["resources"] = {{"requests", {{resource, amount}}}, {"limits", {{resource, amount}}}};
  }
  return {
      {"containers", {container}},
      {"volumes",
       {{{"name", "plan"},
         {"configMap",
          {{"name", deployment.name + "-plan"}, {"defaultMode", 0755}, {"items", items}}}},
        {{"name", "keys"},
         {"secret", {{"secretName", deployment.name + "-keys"}, {"defaultMode", 0600}}}},
        {{"name", "data"}, {"persistentVolumeClaim", {{"claimName", deployment.name + "-data"}}}},
        {{"name", "memory"}, {"emptyDir", {{"medium", "Memory"}}}}}}};
}

Json job(const Deployment& deployment, const std::string& role, int pods) {
  Json spec = pod(deployment, role);
  spec["restartPolicy"] = "Never";
  return {{"name", role},
          {"replicas", 1},
          {"template",
           {{"spec",
             {{"parallelism", pods},
              {"completions", pods},
              {"completionMode", "Indexed"},
              {"backoffLimit", 0},
              {"template", {{"spec", spec}}}}}}}};
}

}  // namespace

std::string job_set(const Deployment& deployment) {
  const Json out = {
      {"apiVersion", "jobset.x-k8s.io/v1alpha2"},
      {"kind", "JobSet"},
      {"metadata", {{"name", deployment.name}}},
      {"spec",
       {{"network", {{"enableDNSHostnames", true}, {"subdomain", deployment.name}}},
        {"failurePolicy", {{"maxRestarts", 0}}},
        {"successPolicy", {{"operator", "All"}, {"targetReplicatedJobs", {"launcher"}}}},
        {"replicatedJobs",
         {job(deployment, "worker", deployment.nodes), job(deployment, "launcher", 1)}}}}};
  return out.dump(2) + "\n";
}

std::string leader_worker_set(const Deployment& deployment) {
  const Json out = {{"apiVersion", "leaderworkerset.x-k8s.io/v1"},
                    {"kind", "LeaderWorkerSet"},
                    {"metadata", {{"name", deployment.name}}},
                    {"spec",
                     {{"replicas", 1},
                      {"leaderWorkerTemplate",
                       {{"size", deployment.nodes + 1},
                        {"restartPolicy", "RecreateGroupOnPodRestart"},
                        {"leaderTemplate", {{"spec", pod(deployment, "launcher")}}},
                        {"workerTemplate", {{"spec", pod(deployment, "worker")}}}}}}}};
  return out.dump(2) + "\n";
}

std::string kustomization(const Deployment& deployment) {
  const bool trains = deployment.plan->workload.kind == WorkloadKind::Training;
  std::string text = fmt::format(
      "apiVersion: kustomize.config.k8s.io/v1beta1\n"
      "kind: Kustomization\n"
      "resources:\n"
      "- {}\n"
      "generatorOptions:\n"
      "  disableNameSuffixHash: true\n"
      "configMapGenerator:\n"
      "- name: {}-plan\n"
      "  files:\n",
      trains ? "jobset.json" : "leaderworkerset.json", deployment.name);
  for (std::size_t i = 0; i < deployment.files.size(); ++i) {
    text += fmt::format("  - file-{}={}\n", i, deployment.files[i]);
  }
  text += fmt::format(
      "secretGenerator:\n"
      "- name: {}-keys\n"
      "  files:\n"
      "  - id_ed25519\n"
      "  - id_ed25519.pub\n",
      deployment.name);
  return text;
}

}  // namespace imhotep::planner
