// Ranks on GPUs: skipped (exit 77), never passed, where a rank has no GPU of its own.
#include "executor/comm/local_rank.h"
#include "kernels/cuda_api.h"
#include "tests/executor/rank_program.h"

int main(int argc, char** argv) {
  const imhotep::executor::Bootstrap ranks;
  std::string why;
  const imhotep::kernels::CudaApi* api = imhotep::kernels::find_cuda_api(&why);
  const bool own = api != nullptr && imhotep::executor::local_rank().rank < api->device_count();
  if (!ranks.all_true(own && ranks.world() > 1)) {
    if (ranks.rank() == 0) std::printf("skipped: no GPU for every rank %s\n", why.c_str());
    return 77;
  }
  return run_cases(ranks, argc, argv);
}
