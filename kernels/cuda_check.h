#pragma once
// Errors inside libimhotep_cuda.so. Safe to include from .cu files.

namespace imhotep::kernels::cuda {

// Throw Error(Failed) "file:line: call: CUDA's words" unless the status is success. cuBLAS and
// cuDNN statuses are passed as their integers.
void check_cuda(int status, const char* call, const char* file, int line);
void check_cublas(int status, const char* call, const char* file, int line);
// Throws Error(Failed) "family: message" unless the condition holds.
void expect(bool condition, const char* family, const char* message);

}  // namespace imhotep::kernels::cuda

#define IMHOTEP_CUDA(call) \
  ::imhotep::kernels::cuda::check_cuda(static_cast<int>(call), #call, __FILE__, __LINE__)
#define IMHOTEP_CUBLAS(call) \
  ::imhotep::kernels::cuda::check_cublas(static_cast<int>(call), #call, __FILE__, __LINE__)
// After every launch.
#define IMHOTEP_LAUNCHED(kernel)                                                               \
  ::imhotep::kernels::cuda::check_cuda(static_cast<int>(cudaGetLastError()), "launch " kernel, \
                                       __FILE__, __LINE__)
