#include "executor/runtime/own_device.h"

#include <algorithm>
#include <cstdlib>

#include "core/base/fail.h"
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

}  // namespace imhotep::executor
