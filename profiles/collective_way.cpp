#include "profiles/collective_way.h"

#include <cmath>

#include "core/program/device_memory.h"

namespace imhotep::profiles {
namespace {

// What one member adds; 0 for exchanges of rows with a message to every peer.
double member_bytes(std::string_view kind, double bytes, int ranks) {
  if (kind == "all_reduce") return bytes;
  const bool shared = kind == "all_gather" || kind == "all_gather_rows" ||
                      kind == "reduce_scatter" || kind == "exchange_rows all_gather";
  return shared ? bytes / ranks : 0;
}

}  // namespace

CollectiveWay collective_way(std::string_view kind, double bytes, int ranks) {
  const double member = member_bytes(kind, bytes, ranks);
  if (member > 0 && program::fits_windows(std::llround(member), ranks)) {
    return CollectiveWay::Windows;
  }
  return bytes <= kLargestCaptured ? CollectiveWay::Captured : CollectiveWay::Enqueued;
}

}  // namespace imhotep::profiles
