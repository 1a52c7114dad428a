#pragma once
// The price of one operation: a time, its 90 % interval, and where the figure comes from.

#include <cstdint>
#include <string_view>

namespace imhotep::simulator {

// From the surest to the least sure.
enum class Source : std::uint8_t {
  Measured,      // this very key was measured
  Interpolated,  // between (or at the edge of) points of the same family, variant and dtype
  Transferred,   // from another variant, dtype, group size or device
  Roofline,      // no measurement: peak rates and a usual efficiency
};
[[nodiscard]] constexpr std::string_view source_name(Source source) {
  switch (source) {
    case Source::Measured:
      return "measured";
    case Source::Interpolated:
      return "interpolated";
    case Source::Transferred:
      return "transferred";
    case Source::Roofline:
      return "roofline";
  }
  return "?";
}

struct Cost {
  double time_us = 0;
  double low_us = 0, high_us = 0;  // 90 % interval
  Source source = Source::Roofline;
};

}  // namespace imhotep::simulator
