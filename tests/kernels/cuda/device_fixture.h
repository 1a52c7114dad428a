#pragma once
// Device memory and a queue for contract tests, and the comparison with the CPU.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/base/random.h"
#include "core/base/scratch.h"
#include "kernels/cuda_api.h"
#include "tests/kernels/cuda/tolerances.h"

namespace imhotep::kernels {

// ---- bf16 on the host: round to nearest even, as the device does
[[nodiscard]] inline std::uint16_t to_bf16(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
[[nodiscard]] inline float from_bf16(std::uint16_t x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Normal values, rounded to bf16 where the queue will hold them so.
[[nodiscard]] inline std::vector<float> random_values(std::int64_t count, std::uint64_t seed,
                                                      Dtype dtype, float scale = 1) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = scale * static_cast<float>(normal(seed, i));
    if (dtype == Dtype::Bf16) values[i] = from_bf16(to_bf16(values[i]));
  }
  return values;
}

class DeviceMemory {
 public:
  explicit DeviceMemory(std::int64_t bytes) : bytes_(bytes), data_(cuda_api().allocate(bytes)) {}
  ~DeviceMemory() { cuda_api().release(data_); }
  DeviceMemory(DeviceMemory&& other) noexcept : bytes_(other.bytes_), data_(other.data_) {
    other.data_ = nullptr;
  }
  DeviceMemory& operator=(DeviceMemory&&) = delete;
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t bytes_;
  void* data_;
};

// A stream, library handles, workspace and fault record, as a runner gives them to kernels.
class DeviceQueue {
 public:
  explicit DeviceQueue(Dtype dtype) : workspace_(kCudaWorkspaceBytes), fault_(sizeof(FaultRecord)) {
    const CudaApi& api = cuda_api();
    queue_ = {.device = Device::Cuda,
              .dtype = dtype,
              .stream = api.make_stream(false),
              .context = api.make_context(),
              .workspace = workspace_.data(),
              .workspace_bytes = workspace_.bytes(),
              .fault = static_cast<FaultRecord*>(fault_.data())};
    api.set(workspace_.data(), 0xff, workspace_.bytes(),
            queue_.stream);  // NaN, if anybody reads it
    api.set(fault_.data(), 0, fault_.bytes(), queue_.stream);
  }
  ~DeviceQueue() {
    cuda_api().release_context(queue_.context);
    cuda_api().release_stream(queue_.stream);
  }
  DeviceQueue(const DeviceQueue&) = delete;
  DeviceQueue& operator=(const DeviceQueue&) = delete;

  operator const Queue&() const { return queue_; }
  [[nodiscard]] Dtype dtype() const { return queue_.dtype; }

  // Values of the host, as `dtype` on the device.
  [[nodiscard]] DeviceMemory upload(const std::vector<float>& values, Dtype dtype) const {
    if (dtype == Dtype::Bf16) {
      std::vector<std::uint16_t> rounded(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) rounded[i] = to_bf16(values[i]);
      return upload_bytes(rounded.data(), rounded.size() * sizeof(std::uint16_t));
    }
    return upload_bytes(values.data(), values.size() * sizeof(float));
  }
  [[nodiscard]] DeviceMemory upload(const std::vector<float>& values) const {
    return upload(values, queue_.dtype);
  }
  template <class T>
  [[nodiscard]] DeviceMemory upload_raw(const std::vector<T>& values) const {
    return upload_bytes(values.data(), values.size() * sizeof(T));
  }
  // Memory full of NaN (fp32, bf16, fp64) or -1 (int32): what a kernel does not write shows.
  [[nodiscard]] DeviceMemory poisoned(std::int64_t elements, Dtype dtype) const {
    DeviceMemory memory(elements * bytes_of(dtype));
    cuda_api().set(memory.data(), 0xff, memory.bytes(), queue_.stream);
    cuda_api().wait(queue_.stream);
    return memory;
  }
  [[nodiscard]] DeviceMemory poisoned(std::int64_t elements) const {
    return poisoned(elements, queue_.dtype);
  }

  [[nodiscard]] std::vector<float> download(const DeviceMemory& memory, Dtype dtype) const {
    if (dtype == Dtype::Bf16) {
      const auto raw = download_raw<std::uint16_t>(memory);
      std::vector<float> values(raw.size());
      for (std::size_t i = 0; i < raw.size(); ++i) values[i] = from_bf16(raw[i]);
      return values;
    }
    return download_raw<float>(memory);
  }
  [[nodiscard]] std::vector<float> download(const DeviceMemory& memory) const {
    return download(memory, queue_.dtype);
  }
  template <class T>
  [[nodiscard]] std::vector<T> download_raw(const DeviceMemory& memory) const {
    std::vector<T> values(static_cast<std::size_t>(memory.bytes()) / sizeof(T));
    cuda_api().copy_out(values.data(), memory.data(), memory.bytes(), queue_.stream);
    cuda_api().wait(queue_.stream);
    return values;
  }
  // The fault of the calls so far, which are waited for.
  [[nodiscard]] FaultRecord fault() const { return download_raw<FaultRecord>(fault_).front(); }

 private:
  [[nodiscard]] DeviceMemory upload_bytes(const void* from, std::size_t bytes) const {
    DeviceMemory memory(static_cast<std::int64_t>(bytes));
    cuda_api().copy_in(memory.data(), from, memory.bytes(), queue_.stream);
    cuda_api().wait(queue_.stream);
    return memory;
  }

  DeviceMemory workspace_, fault_;
  Queue queue_;
};

struct Difference {
  double relative = 0, worst = 0;
};
[[nodiscard]] inline Difference difference(const std::vector<float>& out,
                                           const std::vector<float>& reference) {
  REQUIRE(out.size() == reference.size());
  double squares = 0, total = 0, most = 0, largest = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double d = static_cast<double>(out[i]) - static_cast<double>(reference[i]);
    if (!std::isfinite(d)) return {.relative = INFINITY, .worst = INFINITY};
    squares += d * d;
    total += static_cast<double>(reference[i]) * static_cast<double>(reference[i]);
    most = std::fmax(most, std::fabs(d));
    largest = std::fmax(largest, std::fabs(static_cast<double>(reference[i])));
  }
  if (total == 0) return {.relative = std::sqrt(squares), .worst = most};
  return {.relative = std::sqrt(squares / total), .worst = most / largest};
}

// Both measures within the tolerance, or a failed check that says them.
inline void check_close(const std::vector<float>& out, const std::vector<float>& reference,
                        const Tolerance& tolerated) {
  const Difference found = difference(out, reference);
  CAPTURE(found.relative);
  CAPTURE(found.worst);
  CHECK(found.relative <= tolerated.relative);
  CHECK(found.worst <= tolerated.worst);
}

}  // namespace imhotep::kernels
