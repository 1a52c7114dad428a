// Tests of libimhotep_cuda.so: skipped (exit 77), never passed, on a machine without a GPU.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <string>

#include "kernels/cuda_api.h"

int main(int count, char** arguments) {
  std::string why;
  const imhotep::kernels::CudaApi* api = imhotep::kernels::find_cuda_api(&why);
  if (api != nullptr && api->device_count() == 0) why = "no CUDA device";
  if (!why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 77;
  }
  return doctest::Context(count, arguments).run();
}
