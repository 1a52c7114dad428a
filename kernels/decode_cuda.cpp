// Fused forms of a decode step: entries of the table of CUDA kernels.

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void add_decode(CudaFamilies&) {}

}  // namespace imhotep::kernels::cuda
