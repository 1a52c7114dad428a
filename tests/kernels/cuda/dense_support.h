#pragma once
// What the contract tests of the dense families share.

#include <functional>
#include <string>

#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels::test {

inline const Queue kCpu{};  // fp32, the reference

// One queue of each type that the kernels take.
inline void on_each_type(const std::function<void(const DeviceQueue&)>& run) {
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    const DeviceQueue queue(dtype);
    CAPTURE(static_cast<int>(dtype));
    run(queue);
    CHECK(queue.fault().fault == Fault::None);
  }
}

inline const std::int32_t* table(const DeviceMemory& memory) {
  return static_cast<const std::int32_t*>(memory.data());
}

// Downloads two runs of the same work, whose bits must be equal, and returns the first.
inline std::vector<float> repeated(const DeviceQueue& queue, const DeviceMemory& first,
                                   const DeviceMemory& second, Dtype dtype) {
  auto values = queue.download(first, dtype);
  CHECK(values == queue.download(second, dtype));
  return values;
}

}  // namespace imhotep::kernels::test
