#include "executor/comm/exchange_grid.h"

#include <algorithm>
#include <numeric>

#include "core/base/fail.h"

namespace imhotep::executor {

Exchange::Grid::Grid(NodeGrid grid, Communicator& inside_group, Communicator& across_group,
                     std::int64_t local_experts)
    : nodes(std::move(grid)),
      inside(inside_group),
      across(across_group),
      counts(nodes.member.size() * local_experts),
      begin(nodes.member.size() + 1),
      sent(nodes.member.size() * local_experts),
      home(nodes.per_node, nodes.nodes, !inside.cuts_alike()),
      middle_inside(nodes.per_node, nodes.nodes, !inside.cuts_alike()),
      middle_across(nodes.nodes, nodes.per_node, !inside.cuts_alike()),
      away(nodes.nodes, nodes.per_node, !inside.cuts_alike()) {}

void Exchange::counts_over_grid(const std::int32_t* sent, std::int32_t* received) {
  Grid& g = *grid_;
  const std::int64_t bytes = local_experts_ * std::int64_t{sizeof(std::int32_t)};
  const int nodes = g.nodes.nodes, per_node = g.nodes.per_node;
  const Traffic before = g.inside.traffic(), before_across = g.across.traffic();
  g.home.clear();
  g.middle_inside.clear();
  for (int l = 0; l < per_node; ++l) {
    for (int n = 0; n < nodes; ++n) g.home.add(l, g.nodes.at(n, l) * bytes, bytes);
    g.middle_inside.add(l, l * nodes * bytes, nodes * bytes);
  }
  g.inside.transfer("exchange_counts inside the node", sent, g.counts.data(), g.home,
                    g.middle_inside);
  g.middle_across.clear();
  g.away.clear();
  for (int n = 0; n < nodes; ++n) {
    for (int l = 0; l < per_node; ++l) {
      g.middle_across.add(n, (l * nodes + n) * bytes, bytes);
      g.away.add(n, g.nodes.at(n, l) * bytes, bytes);
    }
  }
  g.across.transfer("exchange_counts between nodes", g.counts.data(), received, g.middle_across,
                    g.away);
  counts_traffic_ += g.inside.traffic() - before;
  counts_traffic_ += g.across.traffic() - before_across;
  std::copy_n(sent, g.sent.size(), g.sent.begin());
  for (std::size_t b = 0; b + 1 < g.begin.size(); ++b) {
    const auto* of_block = g.counts.data() + static_cast<std::int64_t>(b) * local_experts_;
    g.begin[b + 1] = std::accumulate(of_block, of_block + local_experts_, g.begin[b]);
  }
}

void Exchange::take_counts(const Exchange& other) {
  if (!grid_) return;
  grid_->begin = other.grid_->begin;
  grid_->sent = other.grid_->sent;
}

void Exchange::list_grid_rows(const RowMove& move) {
  Grid& g = *grid_;
  const std::int64_t row = move.row_bytes;
  const std::int64_t first = move.segments != nullptr ? move.segments[place_.lane] : 0;
  g.home.clear();
  g.middle_inside.clear();
  for (int l = 0; l < g.nodes.per_node; ++l) {
    for (int n = 0; n < g.nodes.nodes; ++n) {
      const int peer = g.nodes.at(n, l);
      g.home.add(l, (first + home_begin_[peer]) * row,
                 (home_begin_[peer + 1] - home_begin_[peer]) * row);
    }
    for (int n = 0; n < g.nodes.nodes; ++n) {
      const int block = l * g.nodes.nodes + n;
      g.middle_inside.add(l, g.begin[block] * row, (g.begin[block + 1] - g.begin[block]) * row);
    }
  }
  g.middle_across.clear();
  g.away.clear();
  for (int n = 0; n < g.nodes.nodes; ++n) {
    for (int l = 0; l < g.nodes.per_node; ++l) {
      const int block = l * g.nodes.nodes + n, peer = g.nodes.at(n, l);
      g.middle_across.add(n, g.begin[block] * row, (g.begin[block + 1] - g.begin[block]) * row);
      g.away.add(n, away_begin_[peer] * row, (away_begin_[peer + 1] - away_begin_[peer]) * row);
    }
  }
}

void Exchange::move_over_grid(const RowMove& move) {
  Grid& g = *grid_;
  if (!std::equal(g.sent.begin(), g.sent.end(), move.sent)) {
    fail("layer {}: rank {} moves rows by other counts than it announced", layer_, rank_.value);
  }
  if (g.begin.back() > move.scratch_rows) {
    fail("layer {}: {} rows pass through rank {}, but its scratch holds {}", layer_, g.begin.back(),
         rank_.value, move.scratch_rows);
  }
  list_grid_rows(move);
  const Traffic before = g.inside.traffic(), before_across = g.across.traffic();
  if (move.reverse) {
    g.across.transfer("exchange_rows between nodes (reverse)", move.in, move.scratch, g.away,
                      g.middle_across);
    g.inside.transfer("exchange_rows inside the node (reverse)", move.scratch, move.out,
                      g.middle_inside, g.home);
  } else {
    g.inside.transfer("exchange_rows inside the node", move.in, move.scratch, g.home,
                      g.middle_inside);
    g.across.transfer("exchange_rows between nodes", move.scratch, move.out, g.middle_across,
                      g.away);
  }
  rows_traffic_ += g.inside.traffic() - before;
  rows_traffic_ += g.across.traffic() - before_across;
}

}  // namespace imhotep::executor
