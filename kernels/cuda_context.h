#pragma once
// What a rank keeps between CUDA calls: library handles, algorithms chosen by shape, properties of
// the device. Made by CudaApi::make_context, carried in Queue::context, used by one thread.
// Only for the sources of libimhotep_cuda.so.

#include <cuda_runtime_api.h>

#include <memory>
#include <typeindex>
#include <unordered_map>

#include "kernels/queue.h"

namespace imhotep::kernels::cuda {

struct Context {
  int device = 0;
  int multiprocessors = 0;
  int compute_major = 0, compute_minor = 0;
  std::int64_t l2_bytes = 0;

  // One object of type T, default-constructed on first use: a handle, a cache of algorithms.
  template <class T>
  T& get() {
    std::shared_ptr<void>& slot = slots_[std::type_index(typeid(T))];
    if (!slot) slot = std::make_shared<T>();
    return *static_cast<T*>(slot.get());
  }

 private:
  std::unordered_map<std::type_index, std::shared_ptr<void>> slots_;
};

[[nodiscard]] inline Context& context_of(const Queue& queue) {
  return *static_cast<Context*>(queue.context);
}
[[nodiscard]] inline cudaStream_t stream_of(const Queue& queue) {
  return static_cast<cudaStream_t>(queue.stream);
}

}  // namespace imhotep::kernels::cuda
