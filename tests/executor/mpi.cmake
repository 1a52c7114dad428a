# Programs that run under mpirun. Their main is tests/executor/mpi_main.cpp.
# imhotep_mpi_test(comm_tests "8;16" SOURCES a_test.cpp LINK imhotep_comm) makes one program and
# the tests comm_tests_8 and comm_tests_16. They run one at a time: ranks outnumber cores.
find_program(IMHOTEP_MPIRUN mpirun REQUIRED)

add_library(imhotep_mpi_main STATIC mpi_main.cpp)
target_link_libraries(imhotep_mpi_main PUBLIC imhotep_comm doctest::doctest)
target_compile_definitions(imhotep_mpi_main PUBLIC IMHOTEP_SOURCE_DIR="${CMAKE_SOURCE_DIR}")

function(imhotep_mpi_test name ranks)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 180)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE imhotep_mpi_main ${ARG_LINK})
  foreach(count ${ranks})
    add_test(NAME ${name}_${count}
             COMMAND ${IMHOTEP_MPIRUN} --bind-to none -n ${count} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}_${count} PROPERTIES
      TIMEOUT ${ARG_TIMEOUT} RUN_SERIAL ON
      ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;\
OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_mpi_yield_when_idle=1;\
OMPI_MCA_btl_vader_single_copy_mechanism=none;OMP_NUM_THREADS=1;OPENBLAS_NUM_THREADS=1;\
ASAN_OPTIONS=detect_leaks=0")  # Open MPI keeps memory until the end
  endforeach()
endfunction()
