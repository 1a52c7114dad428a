#include "executor/runtime/device_check.h"

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

std::string cuda_text(int version) {
  return fmt::format("CUDA {}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

// A runtime works with any driver of its own major version or a later one.
std::string why_no_device(const kernels::CudaApi& api) {
  if (api.device_count() > 0) return {};
  const kernels::CudaVersions versions = api.versions();
  const std::string needed = cuda_text(versions.runtime);
  if (versions.driver == 0) {
    return fmt::format("no driver is loaded; libimhotep_cuda.so needs one for {}", needed);
  }
  const std::string driver = cuda_text(versions.driver);
  if (versions.driver / 1000 < versions.runtime / 1000) {
    return fmt::format("the driver speaks {}, libimhotep_cuda.so needs {}: install a newer driver",
                       driver, needed);
  }
  return fmt::format("the driver ({}) sees no device", driver);
}

}  // namespace imhotep::executor
