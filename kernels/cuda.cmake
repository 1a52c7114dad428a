# The device halves of the kernel families: one foo_cuda.cu beside each foo_cpu.cpp. They form
# libimhotep_cuda.so, loaded on demand, so that imhotep starts on a machine without CUDA.
# Read only with -DIMHOTEP_CUDA=ON. Without a file in the list no library is built.
set(IMHOTEP_CUDA_KERNELS
)

add_custom_target(cuda_files)  # what `cmake --build --preset cuda --target cuda_files` compiles
if(IMHOTEP_CUDA_KERNELS)
  add_library(imhotep_cuda SHARED ${IMHOTEP_CUDA_KERNELS})
  target_link_libraries(imhotep_cuda PRIVATE imhotep_cuda_options imhotep_base CUDA::cudart)
  add_dependencies(cuda_files imhotep_cuda)
endif()
