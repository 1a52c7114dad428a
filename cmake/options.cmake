# Compiler settings shared by every target: link imhotep_options.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# libimhotep_cuda.so is looked for beside the program, and where the build leaves it.
set(CMAKE_BUILD_RPATH "$ORIGIN;${CMAKE_BINARY_DIR}/kernels")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(imhotep_options INTERFACE)
target_include_directories(imhotep_options INTERFACE ${CMAKE_SOURCE_DIR})
# Left out: designated initialisers leave fields to their defaults on purpose, and GCC 12 sees
# overlaps in std::string that are not there.
set(IMHOTEP_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
    -Wno-missing-field-initializers -Wno-restrict)
if(IMHOTEP_WERROR)
  list(APPEND IMHOTEP_WARNINGS -Werror)
endif()
# For C++ alone: nvcc has its own spelling (cuda.cmake).
target_compile_options(imhotep_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${IMHOTEP_WARNINGS}>")
if(IMHOTEP_SANITIZE)
  # With sanitizers GCC 12 sees uninitialised members inside std::regex.
  target_compile_options(imhotep_options INTERFACE -fsanitize=${IMHOTEP_SANITIZE}
                         -fno-omit-frame-pointer -fno-sanitize-recover=all
                         -Wno-maybe-uninitialized)
  target_link_options(imhotep_options INTERFACE -fsanitize=${IMHOTEP_SANITIZE})
  target_compile_definitions(imhotep_options INTERFACE IMHOTEP_SANITIZED=1 _GLIBCXX_ASSERTIONS)
endif()

# The asan preset compiles sources six at a time (CMAKE_UNITY_BUILD), because headers cost it more
# than code. Sources whose names would meet those of a neighbour stay alone.
function(imhotep_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# One library a folder, sources listed.
function(imhotep_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC imhotep_options ${ARG_LINK})
endfunction()
