# CPU against GPU over whole steps; skipped without a GPU.
add_executable(executor_cuda_tests ../kernels/cuda/main.cpp cuda/parity_test.cpp cuda/serving_test.cpp
               serve/serving.cpp)
target_link_libraries(executor_cuda_tests PRIVATE imhotep_options doctest::doctest imhotep_serve)
target_compile_definitions(executor_cuda_tests PRIVATE IMHOTEP_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
add_test(NAME executor_cuda_tests COMMAND executor_cuda_tests)
set_tests_properties(executor_cuda_tests PROPERTIES SKIP_RETURN_CODE 77
                     ENVIRONMENT "OPENBLAS_NUM_THREADS=1")
if(TARGET imhotep_cuda)
  add_dependencies(executor_cuda_tests imhotep_cuda)
endif()

imhotep_alone(../kernels/cuda/main.cpp cuda/ranks_main.cpp)
# Ranks on GPUs of their own. By hand: mpirun -n 2 gpu_rank_tests; scripts/gpu-test does it.
add_executable(gpu_rank_tests cuda/ranks_main.cpp cuda/collectives_test.cpp
               cuda/plans_cuda_test.cpp plans/plan_cover.cpp)
target_link_libraries(gpu_rank_tests PRIVATE imhotep_options doctest::doctest imhotep_runtime
                      imhotep_profiles)
add_test(NAME gpu_rank_tests
         COMMAND ${IMHOTEP_MPIRUN} --bind-to none --oversubscribe -n 2 $<TARGET_FILE:gpu_rank_tests>)
set_tests_properties(gpu_rank_tests PROPERTIES
  SKIP_RETURN_CODE 77 RUN_SERIAL ON
  ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OPENBLAS_NUM_THREADS=1")
if(TARGET imhotep_cuda)
  add_dependencies(gpu_rank_tests imhotep_cuda)
endif()
