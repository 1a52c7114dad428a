#pragma once
// What a device could do at best, and what kernels usually make of it.

#include "core/spec/cluster.h"
#include "profiles/description.h"
#include "simulator/cost/cost.h"

namespace imhotep::simulator {

// max(FLOPs / peak, bytes / bandwidth) + launch: the denominator of every measured efficiency.
// fp64 runs at half the fp32 peak. Derivation: docs/cost/roofline.md.
// max( FLOPs / peak, bytes / bandwidth ), without a launch.
[[nodiscard]] double bound_us(const profiles::Work& work, const DeviceSpec& device, Dtype dtype);
[[nodiscard]] double least_start_us(const DeviceSpec& device);  // of any operation
[[nodiscard]] double roofline_us(const profiles::Work& work, const DeviceSpec& device, Dtype dtype);

// An unmeasured operation: usual fractions of either peak, and an interval that admits it.
// Source: median efficiencies of published GEMM and memory-bound tables (NVIDIA AIConfigurator,
// A100 to B200: 0.65-0.80 of peak, 0.75-0.80 of bandwidth); CPU fractions are assumptions.
[[nodiscard]] Cost unmeasured(const profiles::Work& work, const DeviceSpec& device, Dtype dtype);

}  // namespace imhotep::simulator
