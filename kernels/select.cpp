#include "kernels/select.h"

#include "core/base/fail.h"

namespace imhotep::kernels {
namespace {

const char* name_of(Device device) { return device == Device::Cpu ? "CPU" : "CUDA"; }

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
      return "fp32";
    case Dtype::F64:
      return "fp64";
    case Dtype::Bf16:
      return "bf16";
    case Dtype::I32:
      return "int32";
  }
  return "unknown";
}

}  // namespace

void unsupported(const Queue& queue, const char* family) {
  fail_missing("{}: this build has no kernel for {} on a {} queue", family, name_of(queue.dtype),
               name_of(queue.device));
}

void require(bool condition, const char* family, const char* message) {
  if (!condition) fail("{}: {}", family, message);
}

}  // namespace imhotep::kernels
