#pragma once
// Why a plan for GPUs cannot run here, in a sentence.

#include <string>

#include "kernels/cuda_api.h"

namespace imhotep::executor {

// "" where there is a device; else what is missing: a driver, a newer one, a GPU.
[[nodiscard]] std::string why_no_device(const kernels::CudaApi& api);

}  // namespace imhotep::executor
