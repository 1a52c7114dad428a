# The ranks that launch_test.cpp starts.
add_executable(comm_rank comm/rank.cpp)
target_link_libraries(comm_rank PRIVATE imhotep_comm)

imhotep_unit_test(executor_comm_tests
  SOURCES comm/groups_test.cpp comm/launch_test.cpp comm/pieces_test.cpp comm/plans.cpp
          comm/tcp_test.cpp
  LINK imhotep_comm)
target_compile_definitions(executor_comm_tests PRIVATE
                           IMHOTEP_COMM_RANK="$<TARGET_FILE:comm_rank>")
add_dependencies(executor_comm_tests comm_rank)
set_tests_properties(executor_comm_tests PROPERTIES TIMEOUT 180 RUN_SERIAL ON)
set_property(TEST executor_comm_tests APPEND PROPERTY ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")

imhotep_mpi_test(executor_comm_mpi_tests "8;16"
  SOURCES comm/collectives_test.cpp comm/exchange_test.cpp comm/route_test.cpp comm/pool_test.cpp
          comm/plans.cpp
  LINK imhotep_comm)

add_executable(bench_comm EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/bench/comm_bench.cpp)
target_link_libraries(bench_comm PRIVATE imhotep_comm)

imhotep_alone(comm/route_test.cpp)
# Flat against hierarchical exchange; scripts/two-nodes runs it.
add_executable(bench_exchange EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/bench/exchange_bench.cpp
               ${CMAKE_SOURCE_DIR}/tests/bench/crossover_picture.cpp)
target_link_libraries(bench_exchange PRIVATE imhotep_comm imhotep_simulator)

# The same tests over TCP, as torchrun would start them.
add_test(NAME executor_comm_tcp_tests
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/tcp_ranks.sh 8 $<TARGET_FILE:executor_comm_mpi_tests>
                 "--test-case-exclude=a message longer than expected*")
set_tests_properties(executor_comm_tcp_tests PROPERTIES TIMEOUT 180 RUN_SERIAL ON)
