# Contract tests CPU against CUDA. They need only the table of cuda_api.h, so they build in every
# preset; without a GPU the program is skipped. Not among the unit tests that sanitizers check.
add_executable(kernels_cuda_tests
  cuda/main.cpp
  # dense
  cuda/cross_entropy_cuda_test.cpp
  cuda/elementwise_cuda_test.cpp
  cuda/embedding_cuda_test.cpp
  cuda/gemm_cuda_test.cpp
  cuda/layer_norm_cuda_test.cpp
  cuda/sample_cuda_test.cpp
  cuda/update_cuda_test.cpp
  # attention
  cuda/attention_cached_cuda_test.cpp
  cuda/attention_cuda_test.cpp
  # routing
  cuda/dispatch_cuda_test.cpp
  cuda/route_cuda_test.cpp
  cuda/rows_cuda_test.cpp
  golden_routing.cpp
  # experts
  cuda/grouped_gemm_cuda_test.cpp
  # decode
  cuda/few_experts_cuda_test.cpp
  cuda/few_rows_cuda_test.cpp
)
target_link_libraries(kernels_cuda_tests PRIVATE imhotep_options doctest::doctest imhotep_kernels
                      nlohmann_json::nlohmann_json)
set_target_properties(kernels_cuda_tests PROPERTIES UNITY_BUILD OFF)
target_compile_definitions(kernels_cuda_tests PRIVATE
                           IMHOTEP_SOURCE_DIR="${CMAKE_SOURCE_DIR}")  # golden files
add_test(NAME kernels_cuda_tests COMMAND kernels_cuda_tests)
set_tests_properties(kernels_cuda_tests PROPERTIES SKIP_RETURN_CODE 77
                     ENVIRONMENT "OPENBLAS_NUM_THREADS=1")
if(TARGET imhotep_cuda)
  add_dependencies(kernels_cuda_tests imhotep_cuda)
endif()

# Not a test: ninja bench_grouped_gemm_cuda && tests/kernels/bench_grouped_gemm_cuda
add_executable(bench_grouped_gemm_cuda EXCLUDE_FROM_ALL
               ${CMAKE_CURRENT_LIST_DIR}/../bench/grouped_gemm_cuda_bench.cpp)
target_link_libraries(bench_grouped_gemm_cuda PRIVATE imhotep_kernels)

# Not a test: ninja bench_decode_stages && tests/kernels/bench_decode_stages
add_executable(bench_decode_stages EXCLUDE_FROM_ALL
               ${CMAKE_CURRENT_LIST_DIR}/../bench/decode_stages_bench.cpp)
target_link_libraries(bench_decode_stages PRIVATE imhotep_kernels)
