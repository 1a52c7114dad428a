// The dispatch of the all-gather exchange. A message is a table of how many rows the sender has for
// each expert of the layer, then those rows in pack order, each once however many slicing peers
// compute it. Everybody gets everybody's message; what is for this rank's experts lies together in
// it.

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/base/fail.h"
#include "executor/comm/exchange.h"

namespace imhotep::executor {
namespace {

// The rows for the first `peers` members, and all of them, by a table of the sender.
std::int64_t rows_of(const std::int32_t* counts, std::int64_t experts) {
  return std::accumulate(counts, counts + experts, std::int64_t{0});
}

}  // namespace

void Exchange::gather(const GatherMove& move) {
  const std::int64_t local = local_experts_, copies = place_.copies, degree = peers() / copies;
  const std::int64_t experts = degree * local, header = gather_header_bytes(experts);
  const std::int64_t part = move.scratch_bytes / peers();
  auto* const scratch = static_cast<char*>(move.scratch);
  const auto counts_of = [&](int peer) {
    return reinterpret_cast<std::int32_t*>(scratch + peer * part);
  };

  // The own message: of the copies that slicing peers get, the first.
  std::int32_t* const own = counts_of(place_.own_index);
  std::int64_t packed = 0, bytes = header;
  for (std::int64_t e = 0; e < degree; ++e) {
    const std::int32_t* const counts = move.sent + e * copies * local;
    const std::int64_t rows = rows_of(counts, local), size = rows * move.row_bytes;
    if (bytes + size > part) {
      fail("layer {}: rank {} sends more rows than the {} bytes of a message hold", layer_,
           rank_.value, part);
    }
    std::copy_n(counts, local, own + e * local);
    std::memcpy(scratch + place_.own_index * part + bytes,
                static_cast<const char*>(move.in) + packed * move.row_bytes,
                static_cast<std::size_t>(size));
    packed += rows * copies;
    bytes += size;
  }

  home_.clear();
  away_.clear();
  for (int p = 0; p < peers(); ++p) {
    if (p == place_.own_index) continue;
    home_.add(p, place_.own_index * part, bytes);
    away_.add(p, p * part, part);
  }
  const Traffic before = group_->traffic();
  group_->transfer("exchange_rows (all-gather)", scratch, scratch, home_, away_);
  rows_traffic_ += group_->traffic() - before;

  // All know what each of them receives, so all notice an overflow alike.
  std::fill(totals_.begin(), totals_.end(), 0);
  for (int p = 0; p < peers(); ++p) {
    for (int q = 0; q < peers(); ++q)
      totals_[q] += rows_of(counts_of(p) + q / copies * local, local);
  }
  if (bound_ > 0) check_totals();
  if (overflows_) {
    std::fill_n(move.received, peers() * local, 0);
    return;
  }

  const std::int64_t first = place_.own_index / copies * local;
  auto* out = static_cast<char*>(move.out);
  for (int p = 0; p < peers(); ++p) {
    const std::int32_t* const counts = counts_of(p);
    const std::int64_t size = rows_of(counts + first, local) * move.row_bytes;
    std::memcpy(out, scratch + p * part + header + rows_of(counts, first) * move.row_bytes,
                static_cast<std::size_t>(size));
    std::copy_n(counts + first, local, move.received + p * local);
    out += size;
  }
}

}  // namespace imhotep::executor
