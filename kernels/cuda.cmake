# The device halves of the kernel families: foo_cuda.cu beside foo_cpu.cpp. They form
# libimhotep_cuda.so, loaded on demand (cuda_api.h), so that imhotep starts on a machine without
# CUDA. Read only with -DIMHOTEP_CUDA=ON. Each group enters its families into the library's table.
set(IMHOTEP_CUDA_SOURCES
  cuda_check.cpp
  cuda_runtime.cpp
  # between GPUs
  comm_cuda.cpp
  peer_cuda.cu
  # dense
  dense_cuda.cpp
  cross_entropy_cuda.cu
  distill_cuda.cu
  elementwise_cuda.cu
  embedding_cuda.cu
  gemm_cuda.cpp gemm_finish_cuda.cu gemm_mixed_cuda.cu few_logits_cuda.cu
  initialize_cuda.cu
  layer_norm_cuda.cu
  residual_mix_cuda.cu
  sample_cuda.cu
  update_cuda.cu
  # attention
  attention_cached_cuda.cu
  attention_cached_rows_cuda.cu
  attention_cached_tiles_cuda.cu
  attention_cuda.cpp
  attention_cudnn.cpp
  attention_plain_cuda.cu
  attention_plain_grad_cuda.cu
  cudnn_library.cpp
  # routing
  dispatch_cuda.cu
  route_cuda.cu
  route_grad_cuda.cu
  route_place_cuda.cu
  routing_cuda.cpp
  rows_cuda.cu
  # experts
  experts_cuda.cpp
  grouped_column_sum_cuda.cu
  grouped_gemm_plain_cuda.cu
  grouped_gemm_sm90_cuda.cu
  # decode
  decode_cuda.cpp
  few_experts_down_cuda.cu few_experts_many_cuda.cu
  few_experts_up_cuda.cu
  few_rows_gemm_cuda.cu
  norm_gate_cuda.cu
  norm_gemm_cuda.cu
)

add_library(imhotep_cuda SHARED ${IMHOTEP_CUDA_SOURCES})
target_link_libraries(imhotep_cuda PRIVATE imhotep_options imhotep_cuda_options imhotep_base
                      imhotep_cudnn imhotep_nccl CUDA::cudart CUDA::cublasLt CUDA::cublas)
set_target_properties(imhotep_cuda PROPERTIES BUILD_RPATH "$ORIGIN;${CUDAToolkit_LIBRARY_DIR}")
add_custom_target(cuda_files)  # what `cmake --build --preset cuda --target cuda_files` compiles
add_dependencies(cuda_files imhotep_cuda)
