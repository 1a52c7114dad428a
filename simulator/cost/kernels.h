#pragma once
// Prices operations of one device from the tables of a profile, or by the roofline without one.

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/spec/cluster.h"
#include "profiles/profile.h"
#include "simulator/cost/cost.h"
#include "simulator/cost/measured_table.h"

namespace imhotep::simulator {

class KernelPrices {
 public:
  // A profile of another device is transferred: its efficiencies meet this device's roofline. So is
  // one of others' kernels.
  KernelPrices(const DeviceSpec& device, const std::optional<profiles::Profile>& profile);

  // `busy`: ranks of the node that compute at once; tables measured nearest to that are used.
  // Requires: no communication.
  [[nodiscard]] Cost price(const profiles::Description& operation, Dtype dtype, int busy) const;

 private:
  struct Table {
    std::uint8_t variant = 0;
    Dtype dtype = Dtype::F32;
    int ranks = 1;
    // Made when first asked for: a plan needs few of a profile's tables.
    struct Points {
      std::once_flag once;
      std::vector<MeasuredPoint> measured;
      std::optional<MeasuredTable> table;
    };
    std::shared_ptr<Points> points;
  };
  [[nodiscard]] const MeasuredTable& points_of(const Table& table, int family) const;
  // The table that says most about this operation; nullptr when the family was not measured.
  [[nodiscard]] const Table* nearest(const profiles::Description& operation, Dtype dtype,
                                     int busy) const;

  DeviceSpec device_;
  DeviceSpec measured_;  // the profile's device
  bool same_device_ = false, own_kernels_ = true;
  std::vector<std::vector<Table>> tables_;  // by family
};

}  // namespace imhotep::simulator
