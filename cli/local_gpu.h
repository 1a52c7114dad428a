#pragma once
// The clusters that commands know: the catalogue, "local" (this machine's cores) and, where CUDA
// sees devices, "local-gpu" (this machine's GPUs).

#include <optional>
#include <string>
#include <vector>

#include "core/spec/cluster.h"

namespace imhotep::cli {

inline constexpr const char* kLocalGpu = "local-gpu";

// nullopt without a usable device; `why` then says the reason in a sentence.
[[nodiscard]] std::optional<ClusterSpec> detect_local_gpus(std::string* why = nullptr);

// Throws: Error(Input) for an unknown name, Error(Missing) for local-gpu without a GPU.
[[nodiscard]] ClusterSpec find_cluster(const std::string& name);
[[nodiscard]] std::vector<ClusterSpec> clusters();

}  // namespace imhotep::cli
