// The gate and the row tables: entries of the table of CUDA kernels.

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void add_routing(CudaFamilies&) {}

}  // namespace imhotep::kernels::cuda
