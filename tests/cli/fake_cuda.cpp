// A libimhotep_cuda.so that computes nothing: what FAKE_CUDA in the environment says of drivers,
// devices and memory, so that refusals can be tried without a GPU.

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "kernels/cuda_api.h"

namespace {

using imhotep::kernels::CudaApi;
using imhotep::kernels::CudaDevice;
using imhotep::kernels::CudaVersions;

bool is(const char* scene) {
  const char* wanted = std::getenv("FAKE_CUDA");
  return wanted != nullptr && std::string_view(wanted) == scene;
}

int device_count() { return is("one_gpu") ? 1 : 0; }

CudaVersions versions() {
  return {.driver = is("no_driver") ? 0 : is("old_driver") ? 12040 : 13000, .runtime = 13000};
}

CudaDevice device(int) {
  CudaDevice answer{.memory_bytes = 800'000'000, .free_bytes = 600'000'000, .compute_major = 9};
  std::strcpy(answer.name, "Fake GPU");
  return answer;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const CudaApi* imhotep_cuda_api() {
  static const CudaApi api{.version = is("other_interface") ? imhotep::kernels::kCudaApiVersion + 1
                                                            : imhotep::kernels::kCudaApiVersion,
                           .device_count = device_count,
                           .device = device,
                           .versions = versions,
                           .use_device = [](int) {}};
  return &api;
}
