# Headers of cuDNN and of cudnn-frontend, for attention. Target: imhotep_cudnn.
# cuDNN itself is loaded when attention is first used (kernels/attention_cudnn.cpp), so nothing is
# linked here. cudnn-frontend is header-only and comes in a wheel of PyPI, which is unpacked into the
# build folder; no Python installation is changed.
set(IMHOTEP_CUDNN_FRONTEND "" CACHE PATH
    "Folder that holds cudnn_frontend.h (1.32 or newer); empty: fetched from PyPI")
set(cudnn_frontend_version 1.32.0)
set(cudnn_frontend_sha256 c6006556017a4d1c914c52a556c71b1267f2d6a0500f742e7b4edef539878df0)

# The wheel of one fixed platform: the headers are the same in all, and so is the checksum.
function(imhotep_fetch_cudnn_frontend folder)
  set(remedy "Give -DIMHOTEP_CUDNN_FRONTEND=<folder that holds cudnn_frontend.h>, for example the "
             "include folder of https://github.com/NVIDIA/cudnn-frontend at v${cudnn_frontend_version}.")
  find_program(IMHOTEP_PYTHON python3)
  if(NOT IMHOTEP_PYTHON)
    message(FATAL_ERROR "cudnn-frontend is fetched by pip, and python3 was not found. " ${remedy})
  endif()
  set(wheels ${folder}/wheel)
  file(REMOVE_RECURSE ${wheels})
  message(STATUS "Fetching nvidia-cudnn-frontend ${cudnn_frontend_version} (12 MB)")
  execute_process(
    COMMAND ${IMHOTEP_PYTHON} -m pip download --quiet --disable-pip-version-check --no-cache-dir
            --no-deps --only-binary=:all: --implementation cp --python-version 3.11
            --platform manylinux_2_28_x86_64 --dest ${wheels}
            nvidia-cudnn-frontend==${cudnn_frontend_version}
    RESULT_VARIABLE status ERROR_VARIABLE said)
  file(GLOB wheel ${wheels}/nvidia_cudnn_frontend-*.whl)
  if(NOT status EQUAL 0 OR NOT wheel)
    message(FATAL_ERROR "pip could not download nvidia-cudnn-frontend ${cudnn_frontend_version} "
                        "(no network, or no pip: python3-pip):\n${said}\n" ${remedy})
  endif()
  file(SHA256 ${wheel} sha256)
  if(NOT sha256 STREQUAL cudnn_frontend_sha256)
    message(FATAL_ERROR "${wheel}: expected SHA-256 ${cudnn_frontend_sha256}, got ${sha256}")
  endif()
  execute_process(COMMAND ${IMHOTEP_PYTHON} -m zipfile -e ${wheel} ${wheels}/all
                  RESULT_VARIABLE status ERROR_VARIABLE said)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "cannot unpack ${wheel}: ${said}")
  endif()
  file(RENAME ${wheels}/all/include ${folder}/include)
  file(REMOVE_RECURSE ${wheels})
endfunction()

if(IMHOTEP_CUDNN_FRONTEND)
  set(cudnn_frontend_include ${IMHOTEP_CUDNN_FRONTEND})
else()
  set(cudnn_frontend_folder ${CMAKE_BINARY_DIR}/cudnn_frontend-${cudnn_frontend_version})
  set(cudnn_frontend_include ${cudnn_frontend_folder}/include)
  if(NOT EXISTS ${cudnn_frontend_include}/cudnn_frontend.h)
    imhotep_fetch_cudnn_frontend(${cudnn_frontend_folder})
  endif()
endif()
if(NOT EXISTS ${cudnn_frontend_include}/cudnn_frontend.h)
  message(FATAL_ERROR "IMHOTEP_CUDNN_FRONTEND: ${cudnn_frontend_include} holds no cudnn_frontend.h")
endif()

# cuDNN's own headers: in the toolkit, in NVIDIA's or Debian's packages, or in a Python wheel.
file(GLOB cudnn_wheels /usr/lib/python3*/*-packages/nvidia/cudnn/include
     /usr/local/lib/python3*/*-packages/nvidia/cudnn/include
     $ENV{VIRTUAL_ENV}/lib/python3*/site-packages/nvidia/cudnn/include)
find_path(IMHOTEP_CUDNN_INCLUDE cudnn_version.h
          HINTS $ENV{CUDNN_PATH}/include ${CUDAToolkit_INCLUDE_DIRS}
          PATHS /usr/include /usr/include/x86_64-linux-gnu ${cudnn_wheels}
          DOC "Folder that holds cudnn.h")
if(NOT IMHOTEP_CUDNN_INCLUDE)
  message(FATAL_ERROR "cuDNN's headers (cudnn.h, version 9) were not found in the CUDA toolkit, "
                      "/usr/include or a Python wheel. Install cudnn9-cuda-13 or libcudnn9-dev, or "
                      "give -DIMHOTEP_CUDNN_INCLUDE=<folder>.")
endif()
file(STRINGS ${IMHOTEP_CUDNN_INCLUDE}/cudnn_version.h cudnn_numbers
     REGEX "#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) ")
string(REGEX REPLACE "[^0-9;]" "" cudnn_numbers "${cudnn_numbers}")
string(REPLACE ";" "." cudnn_header_version "${cudnn_numbers}")
if(cudnn_header_version VERSION_LESS 9.10 OR NOT cudnn_header_version VERSION_LESS 10)
  message(FATAL_ERROR "${IMHOTEP_CUDNN_INCLUDE}: expected cuDNN 9.10 or a newer 9, got "
                      "${cudnn_header_version}")
endif()
message(STATUS "cuDNN ${cudnn_header_version}: ${IMHOTEP_CUDNN_INCLUDE}")

# Dynamic loading: no link to libcudnn, libnvrtc or libcuda, none of which every machine has.
add_library(imhotep_cudnn INTERFACE)
target_include_directories(imhotep_cudnn SYSTEM INTERFACE ${cudnn_frontend_include}
                           ${IMHOTEP_CUDNN_INCLUDE})
target_compile_definitions(imhotep_cudnn INTERFACE NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
                           CUDNN_FRONTEND_SKIP_JSON_LIB)
target_link_libraries(imhotep_cudnn INTERFACE ${CMAKE_DL_LIBS})
