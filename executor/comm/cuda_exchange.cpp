#include "executor/comm/cuda_exchange.h"

#include <algorithm>
#include <numeric>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kInt = sizeof(std::int32_t);

// Bytes of a block that a row kernel should have to move: smaller ones add blocks that only wait.
constexpr std::int64_t kBytesABlock = 32 << 10;

// What one member holds of PeerTables.
struct TableLayout {
  std::int64_t counts = 0, homes = 0, totals = 0, turn = 0, bytes = 0;
  TableLayout(std::int64_t members, std::int64_t local_experts) {
    homes = counts + 2 * members * members * local_experts * kInt;
    totals = homes + 2 * members * kInt;
    turn = totals + 2 * members * members * kInt;
    bytes = turn + kInt;
  }
};

// The same at all members: each knows all bounds.
int blocks_for(const PeerTargets& targets, std::int64_t row_bytes) {
  const std::int64_t rows = *std::max_element(targets.bounds.begin(), targets.bounds.end());
  const std::int64_t blocks = (rows * row_bytes + kBytesABlock - 1) / kBytesABlock;
  return static_cast<int>(std::clamp<std::int64_t>(blocks, 1, kernels::kPeerBlocks));
}

CudaCommunicator& find(CommunicatorPool& pool, const Members& members) {
  return dynamic_cast<CudaCommunicator&>(pool.get(members));
}

}  // namespace

PeerArena::PeerArena(Communicator& world, std::byte* base, std::int64_t bytes)
    : world_(world), memory_(world, base), base_(base), bytes_(bytes) {}

PeerTargets PeerArena::targets(Communicator& group, std::byte* rows, std::int64_t bound) const {
  struct Target {
    std::int64_t offset = 0, bound = 0;
  };
  const Target own{.offset = rows - base_, .bound = bound};
  if (own.offset < 0 || own.offset >= bytes_) fail("rows of an exchange lie outside the arena");
  std::vector<Target> all(static_cast<std::size_t>(group.size()));
  group.all_gather(&own, all.data(), sizeof own);
  PeerTargets targets;
  for (int m = 0; m < group.size(); ++m) {
    const Members& ranks = world_.members();
    const auto at = std::find(ranks.begin(), ranks.end(), group.members()[m]) - ranks.begin();
    targets.rows.push_back(memory_.of(static_cast<int>(at)) + all[m].offset);
    targets.bounds.push_back(all[m].bound);
  }
  return targets;
}

CudaExchange::CudaExchange(const Plan& plan, const MoeLayerPlan& moe, Rank rank,
                           CommunicatorPool& host, CommunicatorPool& device, bool peer_arena)
    : place_(exchange_place(plan, moe, rank)),
      local_experts_(moe.experts / moe.expert),
      group_(find(device, place_.group)),
      share_(place_.share_group.size() > 1 ? &find(device, place_.share_group) : nullptr) {
  // Whether the arenas are seen is one answer of the whole world; groups of such a world see their
  // flags too, unless they are too large, and all groups of a layer are equally large.
  direct_ =
      peer_arena && group_.peers() != nullptr && (share_ == nullptr || share_->peers() != nullptr);
  if (direct_) {
    const TableLayout layout(group_.size(), local_experts_);
    memory_ = std::make_unique<PeerMemory>(group_.host(), layout.bytes);
    return;
  }
  host_ = std::make_unique<Exchange>(plan, moe, rank, host);
  device_ = std::make_unique<Exchange>(plan, moe, rank, device);
  sent_.resize(place_.group.size() * static_cast<std::size_t>(local_experts_));
  received_.resize(sent_.size());
  segments_.resize(static_cast<std::size_t>(std::max(place_.lanes, 1)) + 1);
}

Communicator& CudaExchange::host_group(bool gather) const {
  return gather ? share_->host() : group_.host();
}

kernels::PeerTables CudaExchange::tables() const {
  const TableLayout layout(group_.size(), local_experts_);
  kernels::PeerTables tables;
  for (int m = 0; m < group_.size(); ++m) {
    tables.counts[m] = reinterpret_cast<std::int32_t*>(memory_->of(m) + layout.counts);
    tables.homes[m] = reinterpret_cast<std::int32_t*>(memory_->of(m) + layout.homes);
  }
  std::byte* own = memory_->of(group_.rank());
  tables.totals = reinterpret_cast<std::int32_t*>(own + layout.totals);
  tables.turn = reinterpret_cast<std::uint32_t*>(own + layout.turn);
  return tables;
}

void CudaExchange::counts(const kernels::Queue& queue, const std::int32_t* sent,
                          std::int32_t* received) {
  const kernels::CudaApi& api = kernels::cuda_api();
  if (direct_) {
    api.comm.peer_counts(queue, {.group = *group_.peers(),
                                 .tables = tables(),
                                 .local_experts = local_experts_,
                                 .sent = sent,
                                 .received = received});
    return;
  }
  const auto bytes = static_cast<std::int64_t>(sent_.size()) * kInt;
  api.copy_out(sent_.data(), sent, bytes, queue.stream);
  api.wait(queue.stream);
  host_->counts(sent_.data(), received_.data());
  device_->take_counts(*host_);
  api.copy_in(received, received_.data(), bytes, queue.stream);
}

void CudaExchange::read_segments(const kernels::Queue& queue, const std::int32_t* segments) {
  const kernels::CudaApi& api = kernels::cuda_api();
  api.copy_out(segments_.data(), segments, static_cast<std::int64_t>(segments_.size()) * kInt,
               queue.stream);
  api.wait(queue.stream);
}

void CudaExchange::rows(const kernels::Queue& queue, const RowMove& move,
                        const PeerTargets& targets, std::int64_t in_bound) {
  if (direct_) {
    kernels::PeerRows task{
        .group = *group_.peers(),
        .tables = tables(),
        .move = move.reverse ? kernels::PeerMove::Return : kernels::PeerMove::Dispatch,
        .segments = place_.lanes > 1 ? move.segments : nullptr,
        .lane = place_.lane,
        .in = move.in,
        .in_bound = in_bound,
        .row_bytes = move.row_bytes,
        .blocks = blocks_for(targets, move.row_bytes)};
    for (int m = 0; m < group_.size(); ++m) {
      task.out[m] = targets.rows[m];
      task.bound[m] = targets.bounds[m];
    }
    kernels::cuda_api().comm.peer_rows(queue, task);
    return;
  }
  RowMove by_host = move;
  by_host.sent = sent_.data();
  by_host.received = received_.data();
  if (move.segments != nullptr) {
    read_segments(queue, move.segments);
    by_host.segments = segments_.data();
  }
  if (!host_->overflows()) return device_->rows(by_host);
  if (move.reverse) bring_zeros(queue, by_host);
}

void CudaExchange::bring_zeros(const kernels::Queue& queue, const RowMove& move) const {
  const std::int64_t home = move.segments != nullptr ? move.segments[place_.lane] : 0;
  const std::int64_t rows = std::accumulate(sent_.begin(), sent_.end(), std::int64_t{0});
  kernels::cuda_api().set(static_cast<std::byte*>(move.out) + home * move.row_bytes, 0,
                          rows * move.row_bytes, queue.stream);
}

std::optional<Overflow> CudaExchange::take_overflow() {
  return direct_ ? std::nullopt : host_->take_overflow();
}

void CudaExchange::gather_rows(const kernels::Queue& queue, void* rows,
                               const std::int32_t* segments, std::int64_t row_bytes,
                               const PeerTargets& targets) {
  if (share_ == nullptr) return;
  if (!direct_) {
    read_segments(queue, segments);
    device_->gather_rows(rows, segments_.data(), row_bytes);
    return;
  }
  kernels::PeerRows task{.group = *share_->peers(),
                         .tables = {},
                         .move = kernels::PeerMove::Gather,
                         .segments = segments,
                         .lane = share_->rank(),
                         .in = rows,
                         .row_bytes = row_bytes,
                         .blocks = blocks_for(targets, row_bytes)};
  for (int m = 0; m < share_->size(); ++m) task.out[m] = targets.rows[m];
  kernels::cuda_api().comm.peer_rows(queue, task);
}

}  // namespace imhotep::executor
