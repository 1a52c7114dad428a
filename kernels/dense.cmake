set(IMHOTEP_DENSE_KERNELS
  attention.cpp attention_cpu.cpp
  attention_cached.cpp attention_cached_cpu.cpp
  cross_entropy.cpp cross_entropy_cpu.cpp
  cuda_api.cpp
  load_error.cpp
  distill.cpp distill_cpu.cpp
  elementwise.cpp elementwise_cpu.cpp
  embedding.cpp embedding_cpu.cpp
  gemm.cpp gemm_cpu.cpp narrow_product.cpp
  initialize.cpp
  layer_norm.cpp layer_norm_cpu.cpp
  sample.cpp sample_cpu.cpp
  select.cpp
  update.cpp update_cpu.cpp)

# What IMHOTEP_CLONES functions are compiled with. No -ffinite-math-only: masks are -infinity. No
# -fassociative-math: it would undo the range reduction of fast_exp.
set(IMHOTEP_KERNEL_FLAGS -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math
    -fno-signed-zeros -ffp-contract=fast -Wno-psabi)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND IMHOTEP_KERNEL_FLAGS -mprefer-vector-width=512)
endif()
set_source_files_properties(${IMHOTEP_DENSE_KERNELS} PROPERTIES
                            COMPILE_OPTIONS "${IMHOTEP_KERNEL_FLAGS}")
