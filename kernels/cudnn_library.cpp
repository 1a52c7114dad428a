#include "kernels/cudnn_library.h"

#include <cudnn_version.h>
#include <dlfcn.h>

#include "core/base/error.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kOldestCudnn = 91000;  // 9.10: older ones do not know Hopper's backward kernels
constexpr const char* kCudnnLibrary = "libcudnn.so.9";

struct Library {
  void* handle = nullptr;
  int version = 0;
  std::string file, why;
};

Library load() {
  Library library;
  library.handle = dlopen(kCudnnLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library.handle == nullptr) {
    library.why = dlerror();
    return library;
  }
  void* entry = dlsym(library.handle, "cudnnGetVersion");
  if (entry == nullptr) {
    library.why = std::string(kCudnnLibrary) + " has no cudnnGetVersion";
    return library;
  }
  library.version = static_cast<int>(reinterpret_cast<std::size_t (*)()>(entry)());
  Dl_info where{};
  if (dladdr(entry, &where) != 0 && where.dli_fname != nullptr) library.file = where.dli_fname;
  return library;
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

}  // namespace

std::string cudnn_version_text(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

int cudnn_version() { return library().version; }

void* cudnn_handle() {
  const std::string built = cudnn_version_text(CUDNN_VERSION);
  const Library& found = library();
  if (!found.why.empty()) {
    raise(ErrorKind::Missing, "attention in bf16 needs cuDNN (built with " + built +
                                  "): " + found.why +
                                  "; install it or add its folder to "
                                  "LD_LIBRARY_PATH");
  }
  if (found.version < kOldestCudnn) {
    raise(ErrorKind::Missing, "cuDNN " + cudnn_version_text(found.version) + " was loaded from " +
                                  found.file + ", but attention needs " +
                                  cudnn_version_text(kOldestCudnn) + " or newer (built with " +
                                  built +
                                  "): put the folder of a newer one first in LD_LIBRARY_PATH");
  }
  return found.handle;
}

}  // namespace imhotep::kernels::cuda
