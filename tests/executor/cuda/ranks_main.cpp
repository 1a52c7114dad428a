// Ranks on GPUs: skipped (exit 77), never passed, where a rank has no GPU of its own.
#define DOCTEST_CONFIG_IMPLEMENT
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS  // mpirun ends ranks by SIGTERM
#include <doctest/doctest.h>

#include <cstdio>
#include <string>

#include "executor/comm/local_rank.h"
#include "kernels/cuda_api.h"
#include "tests/executor/mpi_main.h"

namespace {
const imhotep::executor::Bootstrap* bootstrap = nullptr;
}  // namespace

const imhotep::executor::Bootstrap& test_bootstrap() { return *bootstrap; }

int main(int argc, char** argv) {
  const imhotep::executor::Bootstrap ranks;
  bootstrap = &ranks;
  std::string why;
  const imhotep::kernels::CudaApi* api = imhotep::kernels::find_cuda_api(&why);
  const bool own = api != nullptr && imhotep::executor::local_rank().rank < api->device_count();
  if (!ranks.all_true(own && ranks.world() > 1)) {
    if (ranks.rank() == 0) std::printf("skipped: no GPU for every rank %s\n", why.c_str());
    return 77;
  }
  doctest::Context context(argc, argv);
  if (ranks.rank() != 0) context.setOption("minimal", true);
  const int failures = context.run();
  const bool passed = ranks.all_true(failures == 0);
  if (ranks.rank() == 0) std::puts(ranks.describe().c_str());
  return passed ? 0 : 1;
}
