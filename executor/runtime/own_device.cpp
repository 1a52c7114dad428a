#include "executor/runtime/own_device.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <string>

#include "core/base/fail.h"
#include "executor/comm/bootstrap.h"
#include "executor/comm/local_rank.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {
namespace {

// A launcher gave every rank one device and hides the others. Ranks that were given the same one
// are found by NCCL.
bool alone_by_mask(int devices) {
  const char* mask = std::getenv("CUDA_VISIBLE_DEVICES");
  return devices == 1 && mask != nullptr && *mask != '\0';
}

}  // namespace

int own_device() {
  const int devices = kernels::cuda_api().device_count();
  if (devices == 0) fail_missing("no CUDA device");
  const int rank = local_rank().rank;
  if (rank < devices) return rank;
  if (alone_by_mask(devices)) return 0;
  fail_missing("rank {} of this machine needs a GPU of its own, and CUDA sees {}", rank, devices);
}

void check_own_device(int world) {
  const int devices = kernels::cuda_api().device_count();
  const LocalRank local = local_rank();
  const int wanted = local.variable.empty() ? world : std::max(local.ranks, local.rank + 1);
  if (wanted <= devices || (!local.variable.empty() && alone_by_mask(devices))) return;
  fail_missing(
      "{} ranks of the plan would share the {} GPU{} of this machine, and every rank needs one of "
      "its own; plan with --gpus {}",
      wanted, devices, devices == 1 ? "" : "s", devices);
}

// Masks of visible devices hide it when two ranks were given one.
void check_apart(const Bootstrap& bootstrap) {
  std::array<char, 128> machine = {};
  gethostname(machine.data(), machine.size() - 1);
  const kernels::CudaDevice device = kernels::cuda_api().device(own_device());
  const std::string own = fmt::format("{} of {}", device.bus, machine.data());
  std::string problem;
  std::map<std::string, int> ranks;
  for (const std::string& place : bootstrap.gather(own)) {
    const auto [other, first] = ranks.emplace(place, static_cast<int>(ranks.size()));
    if (first || !problem.empty()) continue;
    problem = fmt::format(
        "ranks {} and {} share the GPU {}, and every rank needs one of its own; see "
        "CUDA_VISIBLE_DEVICES",
        other->second, ranks.size(), place);
  }
  bootstrap.broadcast(problem);
  if (!problem.empty()) fail_missing("{}", problem);
}

}  // namespace imhotep::executor
