// The experts' products: entries of the table of CUDA kernels.

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void add_experts(CudaFamilies&) {}

}  // namespace imhotep::kernels::cuda
