#include "kernels/cuda_check.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <string>

#include "core/base/error.h"

namespace imhotep::kernels::cuda {
namespace {

[[noreturn]] void failed(const char* call, const std::string& text, const char* file, int line) {
  const std::string path = file;
  const std::string name = path.substr(path.rfind('/') + 1);
  raise(ErrorKind::Failed, name + ":" + std::to_string(line) + ": " + call + ": " + text);
}

}  // namespace

void check_cuda(int status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  failed(call, cudaGetErrorString(static_cast<cudaError_t>(status)), file, line);
}

void check_cublas(int status, const char* call, const char* file, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  failed(call, cublasGetStatusString(static_cast<cublasStatus_t>(status)), file, line);
}

void expect(bool condition, const char* family, const char* message) {
  if (!condition) raise(ErrorKind::Failed, std::string(family) + ": " + message);
}

}  // namespace imhotep::kernels::cuda
