# CUDA as a language, for -DIMHOTEP_CUDA=ON. Included by the root file.
# Two traps of CMake 3.25 with nvcc 13: CUDA_STANDARD 20 is unknown to it, so that the dialect flag
# is dropped silently or refused; and a list with 90a must name real architectures one by one.
find_program(IMHOTEP_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
if(NOT IMHOTEP_NVCC)
  message(FATAL_ERROR "IMHOTEP_CUDA is ON, but nvcc was not found in PATH or /usr/local/cuda/bin. "
                      "Install the CUDA toolkit (12.8 or newer), set CUDACXX to its nvcc, or use "
                      "the preset cpu, which needs none.")
endif()
set(CMAKE_CUDA_COMPILER ${IMHOTEP_NVCC} CACHE FILEPATH "The CUDA compiler")
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real CACHE STRING "A100, H100 and H200")
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit REQUIRED)
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

# Warnings for .cu files: nvcc's own, and the host compiler's through -Xcompiler.
add_library(imhotep_cuda_options INTERFACE)
target_include_directories(imhotep_cuda_options INTERFACE ${CMAKE_SOURCE_DIR})
list(JOIN IMHOTEP_WARNINGS "," host_warnings)
target_compile_options(imhotep_cuda_options INTERFACE
                       $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${host_warnings}>
                       # constexpr functions of core/base (random numbers) run on the device too
                       $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
if(IMHOTEP_WERROR)
  target_compile_options(imhotep_cuda_options INTERFACE
                         $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()

# NCCL's header; the library is loaded when several GPUs are first used (kernels/comm_cuda.cpp).
find_path(IMHOTEP_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS}
          PATHS /usr/include /usr/local/include DOC "Folder that holds nccl.h")
if(NOT IMHOTEP_NCCL_INCLUDE)
  message(FATAL_ERROR "NCCL's header nccl.h was not found in the CUDA toolkit or /usr/include. "
                      "Install libnccl-dev, or give -DIMHOTEP_NCCL_INCLUDE=<folder>.")
endif()
add_library(imhotep_nccl INTERFACE)
target_include_directories(imhotep_nccl SYSTEM INTERFACE ${IMHOTEP_NCCL_INCLUDE})
