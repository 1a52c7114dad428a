#pragma once
// The exchange of one MoE layer between GPUs. Rows are device memory, and so are the tables.
//
// Inside one NVLink domain counts and rows move by kernels that store into the peers' memory, by
// counts that only the devices know: nothing waits on the host, and steps can be captured. There
// all algorithms are one hop, so the hierarchical exchange takes the direct way too.
// Elsewhere the host reads the counts (one wait a layer), and rows move over NCCL by the algorithm
// of the plan (executor/comm/exchange.h): steps cannot be captured then.

#include <map>
#include <memory>
#include <vector>

#include "executor/comm/cuda_communicator.h"
#include "executor/comm/exchange.h"

namespace imhotep::executor {

// Where an operation's rows arrive at every member of its group.
struct PeerTargets {
  std::vector<std::byte*> rows;
  std::vector<std::int64_t> bounds;  // rows that fit
};

// Memory that all ranks of the plan on this machine see, from one allocation a rank.
class PeerArena {
 public:
  // Collective over the ranks of `world`. base: the arena's allocation, bytes long.
  PeerArena(Communicator& world, std::byte* base, std::int64_t bytes);
  [[nodiscard]] bool complete() const { return memory_.complete(); }
  // Collective over the members of `group`: every member names its own rows and how many fit.
  [[nodiscard]] PeerTargets targets(Communicator& group, std::byte* rows, std::int64_t bound) const;

 private:
  Communicator& world_;
  PeerMemory memory_;
  std::byte* base_;
  std::int64_t bytes_;
};

class CudaExchange {
 public:
  // host, device: prepared for the plan; both outlive the object.
  CudaExchange(const Plan& plan, const MoeLayerPlan& moe, Rank rank, CommunicatorPool& host,
               CommunicatorPool& device, bool peer_arena);

  // Whether nothing waits on the host. The same at all ranks.
  [[nodiscard]] bool direct() const { return direct_; }
  // The ranks that a row operation of the program reaches: the exchange's, or its lanes'.
  [[nodiscard]] Communicator& host_group(bool gather) const;

  // As Exchange; on a GPU, enqueued. On the direct way an exceeded bound is the queue's fault, no
  // row lies beyond it, and what comes home is any number; on the other way see take_overflow.
  void counts(const kernels::Queue& queue, const std::int32_t* sent, std::int32_t* received);
  void rows(const kernels::Queue& queue, const RowMove& move, const PeerTargets& targets,
            std::int64_t in_bound);
  void gather_rows(const kernels::Queue& queue, void* rows, const std::int32_t* segments,
                   std::int64_t row_bytes, const PeerTargets& targets);
  [[nodiscard]] std::optional<Overflow> take_overflow();

 private:
  void bring_zeros(const kernels::Queue& queue, const RowMove& move) const;
  void read_segments(const kernels::Queue& queue, const std::int32_t* segments);
  [[nodiscard]] kernels::PeerTables tables() const;

  ExchangePlace place_;
  std::int64_t local_experts_ = 0;
  CudaCommunicator& group_;
  CudaCommunicator* share_;  // null: one lane
  bool direct_ = false;
  std::unique_ptr<PeerMemory> memory_;  // tables of the direct way
  // The other way:
  std::unique_ptr<Exchange> host_, device_;
  std::vector<std::int32_t> sent_, received_, segments_;  // on the host
};

}  // namespace imhotep::executor
