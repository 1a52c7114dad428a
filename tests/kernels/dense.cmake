# dense kernels
imhotep_unit_test(dense_kernels_tests
  SOURCES attention_cached_test.cpp attention_test.cpp cross_entropy_test.cpp distill_test.cpp
          elementwise_test.cpp embedding_test.cpp gemm_test.cpp layer_norm_test.cpp
          load_error_test.cpp random_test.cpp sample_test.cpp update_test.cpp vector_math_test.cpp
  LINK imhotep_kernels)

# Not a test: ninja bench_gemv && OPENBLAS_CORETYPE=SkylakeX tests/kernels/bench_gemv
add_executable(bench_gemv EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/../bench/gemv_bench.cpp)
target_link_libraries(bench_gemv PRIVATE imhotep_kernels)
imhotep_alone(distill_test.cpp embedding_test.cpp)
