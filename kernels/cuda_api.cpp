#include "kernels/cuda_api.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "core/base/fail.h"
#include "kernels/load_error.h"

namespace imhotep::kernels {
namespace {

constexpr const char* kLibrary = "libimhotep_cuda.so";

struct Loaded {
  const CudaApi* api = nullptr;
  std::string why;
};

// The library lies beside the program or where its run path points; IMHOTEP_CUDA_LIBRARY names
// another file, or none when it is empty.
Loaded load() {
  const char* named = std::getenv("IMHOTEP_CUDA_LIBRARY");
  if (named != nullptr && *named == '\0') return {.why = "IMHOTEP_CUDA_LIBRARY is set to nothing"};
  const char* file = named != nullptr ? named : kLibrary;
  void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return {.why = fmt::format("cannot load {}: {}", file, explain_load_error(dlerror()))};
  using Entry = const CudaApi* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, "imhotep_cuda_api"));
  if (entry == nullptr) return {.why = fmt::format("{} is not a library of imhotep", file)};
  const CudaApi* api = entry();
  if (api->version != kCudaApiVersion) {
    return {.why = fmt::format("{}: expected interface {}, got {}", file, kCudaApiVersion,
                               api->version)};
  }
  return {.api = api};
}

const Loaded& loaded() {
  static const Loaded once = load();
  return once;
}

}  // namespace

const CudaApi* find_cuda_api(std::string* why) {
  if (why != nullptr) *why = loaded().why;
  return loaded().api;
}

const CudaApi& cuda_api() {
  if (loaded().api == nullptr) {
    fail_missing("no CUDA in this program: {}; build with the preset cuda, or plan for CPU ranks",
                 loaded().why);
  }
  return *loaded().api;
}

}  // namespace imhotep::kernels
