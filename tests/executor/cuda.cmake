# CPU against GPU over whole steps; skipped without a GPU.
add_executable(executor_cuda_tests ../kernels/cuda/main.cpp cuda/parity_test.cpp)
target_link_libraries(executor_cuda_tests PRIVATE imhotep_options doctest::doctest imhotep_runtime)
add_test(NAME executor_cuda_tests COMMAND executor_cuda_tests)
set_tests_properties(executor_cuda_tests PROPERTIES SKIP_RETURN_CODE 77
                     ENVIRONMENT "OPENBLAS_NUM_THREADS=1")
if(TARGET imhotep_cuda)
  add_dependencies(executor_cuda_tests imhotep_cuda)
endif()
