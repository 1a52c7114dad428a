#pragma once
// Where and in which type a kernel runs. Every kernel family takes a Queue first.
// Memory is reached through untyped pointers, because a program's buffers carry their type:
//   "data"  pointers hold Queue::dtype;
//   "wide"  pointers hold fp64 in fp64 programs and fp32 otherwise (statistics, gate, loss);
//   tables are std::int32_t.
// Safe to include from .cu files.

#include "core/base/dtype.h"

namespace imhotep::kernels {

enum class Device : unsigned char { Cpu, Cuda };

struct Queue {
  Device device = Device::Cpu;
  Dtype dtype = Dtype::F32;
  void* stream = nullptr;  // cudaStream_t on a GPU
};

[[nodiscard]] constexpr Dtype wide_dtype(Dtype dtype) {
  return dtype == Dtype::F64 ? Dtype::F64 : Dtype::F32;
}

}  // namespace imhotep::kernels
