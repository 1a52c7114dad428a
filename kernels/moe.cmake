set(IMHOTEP_MOE_KERNELS
  combine.cpp
  combine_cpu.cpp
  dispatch.cpp
  dispatch_cpu.cpp
  grouped_gemm.cpp
  grouped_gemm_cpu.cpp
  residual_mix.cpp
  residual_mix_cpu.cpp
  route.cpp
  route_cpu.cpp)

# The same flags as the dense kernels: IMHOTEP_KERNEL_FLAGS of dense.cmake, included before.
set_source_files_properties(${IMHOTEP_MOE_KERNELS} PROPERTIES
                            COMPILE_OPTIONS "${IMHOTEP_KERNEL_FLAGS}")
