#pragma once
// The clusters that commands know: the catalogue, "local" (this machine's cores) and, where CUDA
// sees devices, "local-gpu" (this machine's GPUs).

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "core/spec/cluster.h"
#include "core/spec/plan.h"

namespace imhotep::cli {

inline constexpr const char* kLocalGpu = "local-gpu";

// nullopt without a usable device; `why` then says the reason in a sentence.
[[nodiscard]] std::optional<ClusterSpec> detect_local_gpus(std::string* why = nullptr);

// Throws: Error(Input) for an unknown name, Error(Missing) for local-gpu without a GPU.
[[nodiscard]] ClusterSpec find_cluster(const std::string& name);
[[nodiscard]] std::vector<ClusterSpec> clusters();

// Options of commands that run a model on one rank: "auto" (a GPU where there is one), "cpu" or
// "cuda"; "", "fp32" or "bf16". By default bf16 on a GPU and fp32 on a CPU.
struct DeviceChoice {
  std::string device = "auto", dtype;
};
void declare_device(Arguments& arguments, const std::shared_ptr<DeviceChoice>& choice);
// Throws: Error(Missing) for cuda without a GPU.
void set_device(Plan& plan, const DeviceChoice& choice);

}  // namespace imhotep::cli
