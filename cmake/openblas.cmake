# The serial build of OpenBLAS, even where the alternatives system prefers a threaded one: one
# thread a rank is the rule (two OpenMP threads on a busy machine are several times slower).
find_path(OPENBLAS_INCLUDE cblas.h
          PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial
                /usr/include/x86_64-linux-gnu/openblas-serial
                /usr/include/aarch64-linux-gnu/openblas-serial
          NO_DEFAULT_PATH)
find_library(OPENBLAS_LIBRARY openblas
             PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial
                   /usr/lib/x86_64-linux-gnu/openblas-serial
                   /usr/lib/aarch64-linux-gnu/openblas-serial
             NO_DEFAULT_PATH)
if(NOT OPENBLAS_INCLUDE OR NOT OPENBLAS_LIBRARY)
  message(FATAL_ERROR "OpenBLAS (serial) not found. Try: apt-get install libopenblas-serial-dev")
endif()
add_library(openblas INTERFACE)
target_include_directories(openblas SYSTEM INTERFACE ${OPENBLAS_INCLUDE})
target_link_libraries(openblas INTERFACE ${OPENBLAS_LIBRARY})
