#pragma once
// Prices communication: measured tables of collectives where a profile has them, formulas else.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec/cluster.h"
#include "profiles/profile.h"
#include "simulator/cost/cost.h"
#include "simulator/network/group_layout.h"

namespace imhotep::simulator {

// Whether the sizes of a table belong to several ways (profiles/collective_way.h).
struct CollectiveWays {
  std::string kind;
  int ranks = 2;
  bool several = false;  // only of our own kernels between GPUs of a node
};

class CollectivePrices {
 public:
  // The tables of a profile whose device is not the cluster's are not used: links are no property
  // of a device.
  CollectivePrices(const ClusterSpec& cluster, const std::optional<profiles::Profile>& profile);

  // The same tables between other links.
  [[nodiscard]] CollectivePrices on(const ClusterSpec& cluster) const;

  // Between measured sizes of one way the logarithm of the ratio to a latency and a rate through
  // the ends of that way is linear in that of the bytes; beyond all of them, and for groups of
  // other sizes, the formula scales the nearest measurement.
  [[nodiscard]] Cost price(const std::string& kind, double bytes, const GroupLayout& layout) const;
  // What the table of the kind says of a size, whoever's kernels were timed.
  // Requires: a table of the kind.
  [[nodiscard]] Cost at_size(const std::string& kind, double bytes,
                             const GroupLayout& layout) const {
    return from_table(*nearest(kind, layout), bytes);
  }

 private:
  struct Table {
    std::string kind;
    GroupLayout layout;
    std::vector<profiles::CollectivePoint> points;  // ascending bytes
    CollectiveWays ways;
    double width = 0;  // half-width of the interval, as a logarithm
  };
  [[nodiscard]] const Table* nearest(std::string_view kind, const GroupLayout& layout) const;
  [[nodiscard]] Cost from_table(const Table& table, double bytes) const;

  ClusterSpec cluster_;
  bool own_kernels_ = true;
  std::vector<Table> tables_;
};

}  // namespace imhotep::simulator
