#pragma once
// Readings of operations, gathered under the names and numbers of profiles::describe.

#include <map>
#include <string>
#include <vector>

#include "core/program/program.h"
#include "profiles/description.h"
#include "profiles/profile.h"

namespace imhotep::executor {

// Above this interquartile range / median a reading says more about the machine's other work than
// about the kernel.
inline constexpr double kNoisySpread = 0.25;

class Samples {
 public:
  // Communication is not taken: what it costs is timed alone.
  void add(const program::Operation& operation, Dtype dtype, double time_us);
  // One table for each family, variant and dtype; medians and spreads. Points that spread beyond
  // kNoisySpread are left out and counted, unless their table would have none: then they all stay,
  // because a wide interval says more than no measurement.
  [[nodiscard]] std::vector<profiles::Table> tables(int ranks, std::int64_t& refused) const;

 private:
  struct TableName {
    int family = 0, variant = 0;
    Dtype dtype = Dtype::F32;
    auto operator<=>(const TableName&) const = default;
  };
  struct Readings {
    profiles::Description operation;
    std::map<profiles::Key, std::vector<double>> by_key;
  };
  std::map<TableName, Readings> readings_;
};

}  // namespace imhotep::executor
