#pragma once
// Launches with programmatic dependent launch: a kernel starts while its predecessor on the stream
// still runs, does what depends on nothing (reads weights, sets up shared memory), and waits before
// it touches anything that an earlier kernel wrote or still reads. Works in stream capture, where
// the dependency becomes a programmatic edge. Before compute capability 9.0 it is a plain launch.
//
// A kernel launched so must call wait_for_predecessors() at every thread that uses dynamic data,
// and in every block before it ends. launch_dependents() lets the next kernel start as soon as all
// blocks of this one have called it (or ended); it promises nothing about memory.
//
// A multiprocessor divides its memory between first-level cache and shared memory as its kernel
// wishes, and may have to run empty before it changes that. So all kernels launched here wish for
// the same, the most shared memory: neighbours must be able to run side by side.

#include <cuda_runtime.h>

#include "kernels/cuda_check.h"
#include "kernels/cuda_context.h"

namespace imhotep::kernels::cuda {

__device__ inline void launch_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Until all earlier work of the stream is done and visible.
__device__ inline void wait_for_predecessors() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes = 0;  // dynamic
  unsigned cluster = 1;          // blocks along x; more than one needs compute capability 9.0
  const char* name = "";
};

template <class... Parameters, class... Arguments>
void launch_early(const Queue& queue, const Launch& launch, void (*kernel)(Parameters...),
                  const Arguments&... arguments) {
  constexpr std::size_t kWithoutAsking = 48 << 10;  // dynamic shared memory that needs no attribute
  if (launch.shared_bytes > kWithoutAsking) {
    IMHOTEP_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(launch.shared_bytes)));
  }
  if (context_of(queue).compute_major >= 9) {
    IMHOTEP_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributePreferredSharedMemoryCarveout,
                                      cudaSharedmemCarveoutMaxShared));
  }
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (context_of(queue).compute_major >= 9) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
    if (launch.cluster > 1) {
      attributes[count].id = cudaLaunchAttributeClusterDimension;
      attributes[count].val.clusterDim.x = launch.cluster;
      attributes[count].val.clusterDim.y = 1;
      attributes[count++].val.clusterDim.z = 1;
    }
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = launch.grid;
  config.blockDim = launch.block;
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = stream_of(queue);
  config.attrs = attributes;
  config.numAttrs = count;
  check_cuda(
      static_cast<int>(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...)),
      launch.name, __FILE__, __LINE__);
}

}  // namespace imhotep::kernels::cuda
