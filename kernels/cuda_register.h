#pragma once
// Each group of CUDA sources enters its families into the table of the library.

#include "kernels/cuda_families.h"

namespace imhotep::kernels::cuda {

void add_dense(CudaFamilies& families);      // dense_cuda.cpp
void add_attention(CudaFamilies& families);  // attention_cuda.cpp
void add_routing(CudaFamilies& families);    // routing_cuda.cpp
void add_experts(CudaFamilies& families);    // experts_cuda.cpp
void add_decode(CudaFamilies& families);     // decode_cuda.cpp

[[nodiscard]] int cudnn_version();  // of the library loaded, as cudnnGetVersion; attention_cuda.cpp

}  // namespace imhotep::kernels::cuda
