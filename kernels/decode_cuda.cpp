// Fused forms of a decode step: entries of the table of CUDA kernels.

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void add_decode(CudaFamilies& families) {
  families.norm_gemm = norm_gemm;
  families.norm_gate = norm_gate;
  families.few_experts_up = few_experts_up;
  families.few_experts_down = few_experts_down;
}

}  // namespace imhotep::kernels::cuda
