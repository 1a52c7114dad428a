#pragma once
// More rows for a rank than its buffers hold (receive_rows of the plan). Nobody writes beyond a
// bound: an exchange that would, moves no rows at all, and says so by one of these.

#include <cstdint>
#include <string>

#include "core/base/fail.h"
#include "core/base/ids.h"

namespace imhotep::executor {

struct Overflow {
  int layer = 0;
  Rank rank;               // the fullest of its group
  std::int64_t rows = 0;   // that it would have received
  std::int64_t bound = 0;  // that fit
};

// Earlier layers count more: what later layers see of such a step is not what they would see.
[[nodiscard]] inline bool says_more(const Overflow& a, const Overflow& b) {
  return a.layer != b.layer ? a.layer < b.layer : a.rows > b.rows;
}

[[nodiscard]] inline std::string describe(const Overflow& overflow) {
  return fmt::format(
      "layer {}: rank {} would receive {} rows, but its buffers hold {} (receive_rows of the plan)",
      overflow.layer, overflow.rank.value, overflow.rows, overflow.bound);
}

}  // namespace imhotep::executor
