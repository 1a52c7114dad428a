#pragma once
// What a runner's communication needs: the communicators of its programs' groups, the exchange of
// every MoE layer, and between GPUs where rows arrive at the peers. Internal to executor/runtime.

#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "executor/comm/cuda_exchange.h"
#include "executor/comm/exchange.h"
#include "executor/runtime/operation.h"

namespace imhotep::executor {

class Services {
 public:
  // Collective over the ranks of the plan. cuda: null for CPU ranks. All arguments outlive the
  // object; the programs stay where they are.
  Services(const Plan& plan, Rank rank, const std::vector<program::Program>& programs,
           const Memory& memory, CommunicatorPool& pool, const CudaRank* cuda);

  // One more program, which stays where it is. Collective over the ranks of the plan.
  void add(const program::Program& program, const Memory& memory);
  // Of the exchanges that the host counts for: what says most since the last call.
  [[nodiscard]] std::optional<Overflow> take_overflow();

  // Fills in what the operation needs to talk to other ranks.
  void serve(std::size_t program, OperationRun& run);
  [[nodiscard]] const Bootstrap& bootstrap() const { return pool_.bootstrap(); }
  // Whether no exchange waits on the host, so that steps can be captured.
  [[nodiscard]] bool capturable() const { return capturable_; }

 private:
  void add_cuda_exchanges(const Plan& plan, Rank rank, const Memory& memory);
  void add_targets(const program::Program& program, const Memory& memory);

  CommunicatorPool& pool_;
  std::unique_ptr<CommunicatorPool> between_gpus_;
  CommunicatorPool* between_ranks_ = nullptr;  // what operations use: between GPUs, or pool_
  std::unique_ptr<PeerArena> arena_;
  std::map<int, Exchange> exchanges_;  // by layer; of CPU ranks
  std::map<int, CudaExchange> cuda_exchanges_;
  std::unordered_map<const program::Operation*, PeerTargets> targets_;
  std::vector<std::vector<Communicator*>> groups_;  // by program and group
  bool capturable_ = true;
};

}  // namespace imhotep::executor
