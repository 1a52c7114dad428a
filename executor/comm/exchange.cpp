#include "executor/comm/exchange.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/base/fail.h"
#include "executor/comm/exchange_grid.h"

namespace imhotep::executor {

Exchange::Exchange(const Plan& plan, const MoeLayerPlan& moe, Rank rank, CommunicatorPool& pool)
    : place_(exchange_place(plan, moe, rank)),
      layer_(moe.layer),
      rank_(rank),
      local_experts_(moe.experts / moe.expert),
      bound_(moe.receive_rows),
      group_(&pool.get(place_.group)),
      share_(place_.share_group.size() > 1 ? &pool.get(place_.share_group) : nullptr),
      home_(peers()),
      away_(peers()),
      totals_(peers()),
      home_begin_(peers() + 1),
      away_begin_(peers() + 1),
      offsets_(std::max<std::size_t>(place_.share_group.size(), 1) + 1) {
  if (moe.exchange != ExchangeAlgorithm::Hierarchical || peers() == 1) return;
  const NodeGrid nodes = node_grid(place_.group, plan.ranks_per_node);
  const auto found = std::find(nodes.member.begin(), nodes.member.end(), place_.own_index);
  const auto at = static_cast<int>(found - nodes.member.begin());
  grid_ = std::make_unique<Grid>(
      nodes, pool.get(inside_node(place_.group, nodes, at / nodes.per_node)),
      pool.get(across_nodes(place_.group, nodes, at % nodes.per_node)), local_experts_);
}

Exchange::~Exchange() = default;
Exchange::Exchange(Exchange&&) noexcept = default;

namespace {

// First row of every peer, and the total.
void rows_before(const std::int32_t* counts, std::int64_t local_experts,
                 std::vector<std::int64_t>& begin) {
  begin[0] = 0;
  for (std::size_t p = 0; p + 1 < begin.size(); ++p) {
    const std::int32_t* of_peer = counts + static_cast<std::int64_t>(p) * local_experts;
    begin[p + 1] = std::accumulate(of_peer, of_peer + local_experts, begin[p]);
  }
}

}  // namespace

void Exchange::counts(const std::int32_t* sent, std::int32_t* received) {
  if (grid_) {
    counts_over_grid(sent, received);
  } else {
    const Traffic before = group_->traffic();
    group_->all_to_all(sent, received, local_experts_ * std::int64_t{sizeof(std::int32_t)});
    counts_traffic_ += group_->traffic() - before;
  }
  if (bound_ > 0) check_bound(received);
  if (overflows_) std::fill_n(received, peers() * local_experts_, 0);
}

void Exchange::check_bound(const std::int32_t* received) {
  const std::int64_t own =
      std::accumulate(received, received + peers() * local_experts_, std::int64_t{0});
  const Traffic before = group_->traffic();
  group_->all_gather(&own, totals_.data(), sizeof own);
  counts_traffic_ += group_->traffic() - before;
  check_totals();
}

void Exchange::check_totals() {
  const auto fullest = std::max_element(totals_.begin(), totals_.end());
  overflows_ = *fullest > bound_;
  if (!overflows_) return;
  const Overflow found{.layer = layer_,
                       .rank = place_.group[static_cast<std::size_t>(fullest - totals_.begin())],
                       .rows = *fullest,
                       .bound = bound_};
  if (!noticed_ || says_more(found, *noticed_)) noticed_ = found;
}

// Rows that no expert has computed are zero where they would have come home.
void Exchange::bring_zeros(const RowMove& move) const {
  const std::int64_t home = move.segments != nullptr ? move.segments[place_.lane] : 0;
  std::memset(static_cast<char*>(move.out) + home * move.row_bytes, 0,
              static_cast<std::size_t>(home_begin_.back() * move.row_bytes));
}

void Exchange::list_rows(const RowMove& move) {
  const std::int64_t home = move.segments != nullptr ? move.segments[place_.lane] : 0;
  home_.clear();
  away_.clear();
  for (int p = 0; p < peers(); ++p) {
    const std::int64_t out = home_begin_[p + 1] - home_begin_[p];
    const std::int64_t in = away_begin_[p + 1] - away_begin_[p];
    home_.add(p, (home + home_begin_[p]) * move.row_bytes, out * move.row_bytes);
    away_.add(p, away_begin_[p] * move.row_bytes, in * move.row_bytes);
  }
}

void Exchange::rows(const RowMove& move) {
  rows_before(move.sent, local_experts_, home_begin_);
  if (overflows_) {
    if (move.reverse) bring_zeros(move);
    return;
  }
  rows_before(move.received, local_experts_, away_begin_);
  if (grid_) {
    move_over_grid(move);
    return;
  }
  list_rows(move);
  const Traffic before = group_->traffic();
  if (move.reverse) {
    group_->transfer("exchange_rows (reverse)", move.in, move.out, away_, home_);
  } else {
    group_->transfer("exchange_rows", move.in, move.out, home_, away_);
  }
  rows_traffic_ += group_->traffic() - before;
}

void Exchange::gather_rows(void* rows, const std::int32_t* segments, std::int64_t row_bytes) {
  if (share_ == nullptr) return;
  for (std::size_t s = 0; s < offsets_.size(); ++s) offsets_[s] = segments[s] * row_bytes;
  const Traffic before = share_->traffic();
  share_->all_gather_v(static_cast<const char*>(rows) + offsets_[share_->rank()], rows, offsets_);
  gather_traffic_ += share_->traffic() - before;
}

std::int64_t Exchange::scratch_rows(std::int64_t sent_bound) const {
  return grid_ ? sent_bound * grid_->nodes.per_node : 0;
}

}  // namespace imhotep::executor
