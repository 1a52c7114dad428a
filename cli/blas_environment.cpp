#include "cli/blas_environment.h"

#include <cblas.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

namespace imhotep::cli {
namespace {

constexpr const char* kGuard = "IMHOTEP_BLAS_CHOSEN";

#ifdef __x86_64__
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool has_avx512() { return false; }
#endif

bool uses_avx512() {
  static constexpr std::array<std::string_view, 3> kKernels = {"SkylakeX", "Cooperlake",
                                                               "SapphireRapids"};
  const std::string_view core = openblas_get_corename();
  return std::find(kKernels.begin(), kKernels.end(), core) != kKernels.end();
}

}  // namespace

void choose_blas_kernels(char** argv) {
  if (std::getenv("OPENBLAS_CORETYPE") != nullptr || std::getenv(kGuard) != nullptr) return;
  if (!has_avx512() || uses_avx512()) return;
  setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
  setenv(kGuard, "1", 1);
  execv("/proc/self/exe", argv);
  unsetenv("OPENBLAS_CORETYPE");  // could not start again: go on with what there is
}

}  // namespace imhotep::cli
