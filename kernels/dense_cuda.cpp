// Dense mathematics, head, loss and update: entries of the table of CUDA kernels.

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void add_dense(CudaFamilies&) {}

}  // namespace imhotep::kernels::cuda
