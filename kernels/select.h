#pragma once
// From a queue to the implementation of its device and type.

#include "kernels/cuda_api.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// Throws: Error(Missing) that names the family, the device and the type.
[[noreturn]] void unsupported(const Queue& queue, const char* family);

// Throws: Error(Failed) "family: message" unless the condition holds.
void require(bool condition, const char* family, const char* message);

// Calls the family's entry in the table of CUDA kernels, if the queue is a GPU's; else false.
template <class Shape, class Operands>
bool on_cuda(const Queue& queue, const char* family,
             CudaFamily<Shape, Operands> CudaFamilies::*entry, const Shape& shape,
             const Operands& operands) {
  if (queue.device != Device::Cuda) return false;
  const CudaFamily<Shape, Operands> kernel = cuda_api().families.*entry;
  if (kernel == nullptr) unsupported(queue, family);
  kernel(queue, shape, operands);
  return true;
}

// Calls cpu(float{}) or cpu(double{}), as the queue's type says.
template <class Cpu>
void on_cpu(const Queue& queue, const char* family, Cpu cpu) {
  if (queue.device == Device::Cpu && queue.dtype == Dtype::F32) return cpu(float{});
  if (queue.device == Device::Cpu && queue.dtype == Dtype::F64) return cpu(double{});
  unsupported(queue, family);
}

}  // namespace imhotep::kernels
