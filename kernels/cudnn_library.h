#pragma once
// libcudnn, which is loaded when it is first asked for: without it, everything but attention in
// bf16 works. Only for the sources of libimhotep_cuda.so.

#include <string>

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

// For dlsym. Throws: Error(Missing) that names the versions wanted and found, and the file.
[[nodiscard]] void* cudnn_handle();
[[nodiscard]] std::string cudnn_version_text(int version);  // 91900 -> 9.19.0

}  // namespace imhotep::kernels::cuda
