#pragma once
// Routing on a GPU with operands in host memory: copies them in, poisons the outputs, copies back.

#include "kernels/route.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels {

// Inputs at `host` on the device; no memory for null.
template <class T>
[[nodiscard]] std::vector<DeviceMemory> maybe_upload(const DeviceQueue& queue, const T* host,
                                                     std::int64_t count) {
  std::vector<DeviceMemory> memory;
  if (host != nullptr) memory.push_back(queue.upload_raw(std::vector<T>(host, host + count)));
  return memory;
}
template <class T>
[[nodiscard]] T* pointer_or_null(const std::vector<DeviceMemory>& memory) {
  return memory.empty() ? nullptr : static_cast<T*>(memory.front().data());
}

// `count` values that no kernel writes.
template <class T>
[[nodiscard]] DeviceMemory unwritten(const DeviceQueue& queue, std::int64_t count) {
  return queue.upload_raw(std::vector<T>(static_cast<std::size_t>(count), T(-77)));
}
template <class T>
void copy_back(const DeviceQueue& queue, const DeviceMemory& from, T* to) {
  if (to == nullptr) return;
  const std::vector<T> values = queue.download_raw<T>(from);
  std::copy(values.begin(), values.end(), to);
}

inline void route_on(const DeviceQueue& queue, const Route& shape, const RouteOperands& host) {
  const std::int64_t cells = shape.tokens * shape.experts, routes = shape.tokens * shape.k;
  const auto logits = maybe_upload(queue, static_cast<const float*>(host.logits), cells);
  const auto used = maybe_upload(queue, host.used, shape.tokens);
  const auto uniform = maybe_upload(queue, host.uniform, cells);
  const auto noise = maybe_upload(queue, host.noise, cells);
  const auto probs = unwritten<float>(queue, cells), weight = unwritten<float>(queue, routes),
             stats = unwritten<float>(queue, 2 * shape.experts);
  const auto expert = unwritten<std::int32_t>(queue, routes),
             slot = unwritten<std::int32_t>(queue, routes),
             exp_counts = unwritten<std::int32_t>(queue, shape.experts);
  const auto table = [](const DeviceMemory& memory, const std::int32_t* wanted) {
    return wanted != nullptr ? static_cast<std::int32_t*>(memory.data()) : nullptr;
  };
  route(queue, shape,
        {.logits = pointer_or_null<const float>(logits),
         .used = pointer_or_null<const std::int32_t>(used),
         .uniform = pointer_or_null<const double>(uniform),
         .noise = pointer_or_null<const double>(noise),
         .probs = probs.data(),
         .expert = table(expert, host.expert),
         .slot = table(slot, host.slot),
         .weight = weight.data(),
         .stats = stats.data(),
         .exp_counts = table(exp_counts, host.exp_counts),
         .context = host.context});
  copy_back(queue, probs, static_cast<float*>(host.probs));
  copy_back(queue, expert, host.expert);
  copy_back(queue, slot, host.slot);
  copy_back(queue, weight, static_cast<float*>(host.weight));
  copy_back(queue, stats, static_cast<float*>(host.stats));
  copy_back(queue, exp_counts, host.exp_counts);
}

}  // namespace imhotep::kernels
