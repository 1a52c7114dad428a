#pragma once
// Over which way our own collectives on GPUs move so many bytes, and how that was timed. The times
// of one way do not continue those of another: tables are read way by way.

#include <string_view>

namespace imhotep::profiles {

enum class CollectiveWay {
  Windows,   // one kernel that stores into the members' memory
  Captured,  // the library's, timed in a graph
  Enqueued,  // the library's, each call enqueued by the host
};

// Up to here calibration times calls in a graph, as decode steps make them; larger ones as training
// makes them.
inline constexpr double kLargestCaptured = 1 << 20;

// In a group of `ranks` inside a node; `bytes` as collective_bytes counts them.
[[nodiscard]] CollectiveWay collective_way(std::string_view kind, double bytes, int ranks);

}  // namespace imhotep::profiles
