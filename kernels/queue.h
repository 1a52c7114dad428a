#pragma once
// Where and in which type a kernel runs. Every kernel family takes a Queue first.
// Memory is reached through untyped pointers, because a program's buffers carry their type:
//   "data"  pointers hold Queue::dtype;
//   "wide"  pointers hold fp64 in fp64 programs and fp32 otherwise (statistics, gate, loss);
//   tables are std::int32_t.
// On a GPU all pointers are device pointers, calls return before the work is done, and what only
// the device can know to be wrong is written to `fault` instead of thrown.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/dtype.h"

namespace imhotep::kernels {

enum class Device : unsigned char { Cpu, Cuda };

// What a kernel on a GPU found wrong: the first fault of a run stays.
enum class Fault : std::int32_t {
  None,
  RowsExceedBound,     // values: rows, bound
  TargetOutOfRange,    // values: target, words
  PositionOutOfRange,  // values: position, positions that fit
};
struct FaultRecord {
  Fault fault = Fault::None;
  std::int32_t values[3] = {};
};

struct Queue {
  Device device = Device::Cpu;
  Dtype dtype = Dtype::F32;
  // Of a GPU alone:
  void* stream = nullptr;            // cudaStream_t
  void* context = nullptr;           // library handles and caches of one rank (cuda_api.h)
  void* workspace = nullptr;         // device memory that a call may use until its work is done
  std::int64_t workspace_bytes = 0;  // kCudaWorkspaceBytes in a program
  FaultRecord* fault = nullptr;
};

[[nodiscard]] constexpr Dtype wide_dtype(Dtype dtype) {
  return dtype == Dtype::F64 ? Dtype::F64 : Dtype::F32;
}

}  // namespace imhotep::kernels
