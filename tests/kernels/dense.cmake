# dense kernels
add_executable(bench_gemv EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/../bench/gemv_bench.cpp)
target_link_libraries(bench_gemv PRIVATE imhotep_kernels)
