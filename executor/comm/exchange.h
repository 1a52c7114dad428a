#pragma once
// The exchange of one MoE layer at one rank: how many rows go where, the rows themselves, and the
// way back. Rows leave packed by peer (core/program/operands.md) and arrive source-major; inside a
// peer's rows they are grouped by local expert of whoever computes them.
//
//   flat          one all-to-all over the expert group: p - 1 messages a rank.
//   coordinated   the same over the ranks of one lane, then an all-gather over the lanes of the
//                 rows that came home: (p/L - 1) + (L - 1) messages.
//   hierarchical  first inside the node, to the peer whose place in its node is the destination's,
//                 then between nodes among equal places: (G - 1) + (p/G - 1) messages at twice the
//                 volume.
//   all_gather    the dispatch is one all-gather of every rank's rows behind a table of how many
//                 are for each expert: p - 1 messages that carry all rows, and no exchange of
//                 counts. Everything later is the flat exchange.
// Nothing is allocated per call but small MPI types; tables are made once.
// Source: DeepSpeed-MoE (arXiv 2201.05596), section 5.3.

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/layout/groups.h"
#include "executor/comm/communicator.h"
#include "executor/comm/communicator_pool.h"
#include "executor/comm/overflow.h"

namespace imhotep::executor {

// Counts: [peers, local experts], peers in the order of ExchangePlace::group.
struct RowMove {
  const void* in = nullptr;
  void* out = nullptr;
  const std::int32_t* sent = nullptr;      // counts of this rank's rows at home
  const std::int32_t* received = nullptr;  // counts of the rows its experts compute
  const std::int32_t* segments = nullptr;  // [lanes + 1]; null: the rows at home begin at 0
  void* scratch = nullptr;                 // hierarchical: scratch_rows(...) rows
  std::int64_t scratch_rows = 0;
  std::int64_t row_bytes = 0;
  bool reverse = false;  // from the experts back home
};

// The dispatch of the all_gather exchange.
struct GatherMove {
  const void* in = nullptr;            // rows in pack order
  void* out = nullptr;                 // rows for this rank's experts
  const std::int32_t* sent = nullptr;  // counts, as in RowMove
  std::int32_t* received = nullptr;    // out
  void* scratch = nullptr;             // an equal part for the message of every peer
  std::int64_t scratch_bytes = 0;
  std::int64_t row_bytes = 0;
};

class Exchange {
 public:
  // Requires: pool.prepare(plan) was called; exchange_problem(plan, moe) is empty.
  Exchange(const Plan& plan, const MoeLayerPlan& moe, Rank rank, CommunicatorPool& pool);
  ~Exchange();
  Exchange(Exchange&&) noexcept;

  [[nodiscard]] int peers() const { return static_cast<int>(place_.group.size()); }
  [[nodiscard]] std::int64_t local_experts() const { return local_experts_; }
  [[nodiscard]] const ExchangePlace& place() const { return place_; }

  // Tells every peer how many rows it will get. What rows() moves afterwards must be these counts.
  // When a rank of the group would receive more than the plan's receive_rows, all of them know:
  // `received` is zero, and until the next counts rows() moves none and brings zeros home.
  void counts(const std::int32_t* sent, std::int32_t* received);
  // The same, from another exchange of this layer and rank that has made them known.
  void take_counts(const Exchange& other);
  // Requires: in and out are apart.
  void rows(const RowMove& move);
  // all_gather only: counts and rows together, none of them beyond a bound. Throws: Failed when a
  // message does not fit its part of the scratch.
  void gather(const GatherMove& move);
  // Completes rows that came home: every lane's segment at every rank of the share group.
  // rows: [segments[lanes], row_bytes], the own segment in place.
  void gather_rows(void* rows, const std::int32_t* segments, std::int64_t row_bytes);

  // Rows that the middle of a hierarchical exchange may hold when no rank sends more than
  // sent_bound; 0 for the others.
  [[nodiscard]] std::int64_t scratch_rows(std::int64_t sent_bound) const;

  // Whether the last counts were beyond a bound.
  [[nodiscard]] bool overflows() const { return overflows_; }
  // The largest overflow since the last call.
  [[nodiscard]] std::optional<Overflow> take_overflow() {
    return std::exchange(noticed_, std::nullopt);
  }

  [[nodiscard]] const Traffic& counts_traffic() const { return counts_traffic_; }
  [[nodiscard]] const Traffic& rows_traffic() const { return rows_traffic_; }
  [[nodiscard]] const Traffic& gather_traffic() const { return gather_traffic_; }

 private:
  struct Grid;  // hierarchical only

  void check_bound(const std::int32_t* received);
  void check_totals();
  void bring_zeros(const RowMove& move) const;
  void list_rows(const RowMove& move);
  void list_grid_rows(const RowMove& move);
  void move_over_grid(const RowMove& move);
  void counts_over_grid(const std::int32_t* sent, std::int32_t* received);

  ExchangePlace place_;
  int layer_ = 0;
  Rank rank_;
  std::int64_t local_experts_ = 0;
  std::int64_t bound_ = 0;  // 0: the worst case fits
  Communicator* group_ = nullptr;
  Communicator* share_ = nullptr;
  std::unique_ptr<Grid> grid_;
  PieceLists home_, away_;  // rows of each peer, here and where their experts are
  std::vector<std::int64_t> totals_, home_begin_, away_begin_, offsets_;
  Traffic counts_traffic_, rows_traffic_, gather_traffic_;
  bool overflows_ = false;
  std::optional<Overflow> noticed_;
};

}  // namespace imhotep::executor
