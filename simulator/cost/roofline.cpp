#include "simulator/cost/roofline.h"

#include <algorithm>

namespace imhotep::simulator {
namespace {

// A call, its checks and a cold cache line: no operation is free, whatever a cluster file says.
constexpr double kLeastLaunchUs = 0.3;

struct Usual {
  double compute, memory;  // fractions of peak
  double low, high;        // 90 % interval as factors of the estimate
};
constexpr Usual kCuda{.compute = 0.75, .memory = 0.80, .low = 0.7, .high = 2.5};
constexpr Usual kCpu{.compute = 0.70, .memory = 0.50, .low = 0.5, .high = 3.5};

double peak_of(const DeviceSpec& device, Dtype dtype) {
  switch (dtype) {
    case Dtype::Bf16:
      return device.bf16_flops_per_us;
    case Dtype::F64:
      return device.fp32_flops_per_us / 2;
    default:
      return device.fp32_flops_per_us;
  }
}

}  // namespace

double bound_us(const profiles::Work& work, const DeviceSpec& device, Dtype dtype) {
  return std::max(work.flops / peak_of(device, dtype), work.bytes / device.memory_bytes_per_us);
}

double least_start_us(const DeviceSpec& device) {
  return std::max(device.launch_us, kLeastLaunchUs);
}

double roofline_us(const profiles::Work& work, const DeviceSpec& device, Dtype dtype) {
  return bound_us(work, device, dtype) + least_start_us(device);
}

Cost unmeasured(const profiles::Work& work, const DeviceSpec& device, Dtype dtype) {
  const Usual& usual = device.kind == DeviceKind::Cuda ? kCuda : kCpu;
  const profiles::Work slowed{.flops = work.flops / usual.compute,
                              .bytes = work.bytes / usual.memory};
  const double time_us = roofline_us(slowed, device, dtype);
  return {.time_us = time_us,
          .low_us = usual.low * time_us,
          .high_us = usual.high * time_us,
          .source = Source::Roofline};
}

}  // namespace imhotep::simulator
