#include "executor/runtime/services.h"

namespace imhotep::executor {

Services::Services(const Plan& plan, Rank rank, const std::vector<program::Program>& programs,
                   const Memory& memory, CommunicatorPool& pool, const CudaRank* cuda)
    : pool_(pool) {
  pool.prepare(plan);
  between_ranks_ = &pool;
  if (cuda != nullptr && plan.world > 1) {
    void* stream = cuda->queue(plan.dtype).stream;
    between_gpus_ = std::make_unique<CommunicatorPool>(
        pool.bootstrap(), [&pool, stream](const Members& members, int) {
          return std::make_unique<CudaCommunicator>(pool, members, stream);
        });
    between_gpus_->prepare(plan);
    between_ranks_ = between_gpus_.get();
    add_cuda_exchanges(plan, rank, memory);
  } else {
    for (const MoeLayerPlan& moe : plan.moe_layers) {
      exchanges_.emplace(moe.layer, Exchange(plan, moe, rank, pool));
    }
  }
  for (const program::Program& program : programs) add(program, memory);
}

void Services::add(const program::Program& program, const Memory& memory) {
  std::vector<Communicator*> list;
  for (const program::Group& group : program.groups) {
    list.push_back(group.members.size() > 1 ? &between_ranks_->get(group.members) : nullptr);
  }
  groups_.push_back(std::move(list));
  if (!cuda_exchanges_.empty()) add_targets(program, memory);
}

void Services::add_cuda_exchanges(const Plan& plan, Rank rank, const Memory& memory) {
  if (plan.moe_layers.empty()) return;
  arena_ = std::make_unique<PeerArena>(pool_.get(world_group(plan)), memory.arena(),
                                       memory.arena_bytes());
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    const auto made = cuda_exchanges_.try_emplace(moe.layer, plan, moe, rank, pool_, *between_gpus_,
                                                  arena_->complete());
    capturable_ = capturable_ && made.first->second.direct();
  }
}

void Services::add_targets(const program::Program& program, const Memory& memory) {
  const std::vector<std::byte*> addresses = memory.addresses(program);
  for (const program::Operation& operation : program.operations) {
    const auto* rows = std::get_if<ExchangeRows>(&operation.shape);
    const auto* gather = std::get_if<AllGatherRows>(&operation.shape);
    if (rows == nullptr && gather == nullptr) continue;
    const CudaExchange& exchange = cuda_exchanges_.at(operation.layer);
    PeerTargets& targets = targets_[&operation];
    if (!exchange.direct()) continue;
    const program::Operand& out = operation.outputs[0];
    std::byte* here =
        addresses[out.buffer.value] + out.offset * bytes_of(program[out.buffer].dtype);
    targets = arena_->targets(exchange.host_group(gather != nullptr), here,
                              rows != nullptr ? rows->receive.bound : gather->rows.bound);
  }
}

std::optional<Overflow> Services::take_overflow() {
  std::optional<Overflow> most;
  const auto take = [&](auto& exchanges) {
    for (auto& [layer, exchange] : exchanges) {
      const std::optional<Overflow> found = exchange.take_overflow();
      if (found && (!most || says_more(*found, *most))) most = found;
    }
  };
  take(exchanges_);
  take(cuda_exchanges_);
  return most;
}

void Services::serve(std::size_t program, OperationRun& run) {
  const program::Operation& operation = run.operation;
  if (!operation.group.valid()) return;
  run.group = groups_[program][operation.group.value];
  if (const auto found = exchanges_.find(operation.layer); found != exchanges_.end()) {
    run.exchange = &found->second;
  }
  if (const auto found = cuda_exchanges_.find(operation.layer); found != cuda_exchanges_.end()) {
    run.cuda_exchange = &found->second;
  }
  if (const auto found = targets_.find(&operation); found != targets_.end()) {
    run.targets = &found->second;
  }
}

}  // namespace imhotep::executor
