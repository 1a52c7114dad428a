#include "executor/runtime/runner.h"

#include <chrono>
#include <map>

#include "core/base/fail.h"
#include "executor/runtime/operation.h"

namespace imhotep::executor {

void check_runnable(const Plan& plan) {
  if (plan.device != DeviceKind::Cpu) {
    fail_missing(
        "the plan is for {} devices of \"{}\"; this program runs CPU ranks; try: imhotep plan "
        "{} --cluster local",
        name_of(plan.device), plan.cluster, plan.model.name);
  }
  if (plan.dtype != Dtype::F32 && plan.dtype != Dtype::F64) {
    fail_missing("CPU ranks run fp32 and fp64; the plan asks for {}", name_of(plan.dtype));
  }
  if (!plan.executable) fail_missing("the plan can be priced but not run");
}

struct Runner::Services {
  CommunicatorPool& pool;
  std::map<int, Exchange> exchanges;               // by layer
  std::vector<std::vector<Communicator*>> groups;  // by program and group
};

Runner::Runner(const Plan& plan, Rank rank, std::vector<program::Program> programs,
               CommunicatorPool& pool)
    : plan_(plan),
      rank_(rank),
      programs_(std::move(programs)),
      memory_(programs_),
      services_(std::make_unique<Services>(Services{.pool = pool})) {
  check_runnable(plan_);
  pool.prepare(plan_);
  for (const MoeLayerPlan& moe : plan_.moe_layers) {
    services_->exchanges.emplace(moe.layer, Exchange(plan_, moe, rank_, pool));
  }
  for (const program::Program& program : programs_) {
    addresses_.push_back(memory_.addresses(program));
    std::vector<Communicator*> groups;
    for (const program::Group& group : program.groups) {
      groups.push_back(group.members.size() > 1 ? &pool.get(group.members) : nullptr);
    }
    services_->groups.push_back(std::move(groups));
  }
}

Runner::~Runner() = default;

std::byte* Runner::region(program::BufferKind kind, int region) const {
  switch (kind) {
    case program::BufferKind::Weight:
      return memory_.find(kind, "weights", region);
    case program::BufferKind::Gradient:
      return memory_.find(kind, "gradients", region);
    default:
      fail("a region of kind {} has several buffers", static_cast<int>(kind));
  }
}

std::byte* Runner::buffer(int program, std::string_view name) const {
  const BufferId id = programs_[program].find(name);
  if (!id.valid()) fail("the program has no buffer \"{}\"", name);
  return addresses_[program][id.value];
}

void Runner::run(int index, const StepContext& context) {
  using Clock = std::chrono::steady_clock;
  const program::Program& program = programs_[index];
  const kernels::Queue queue{.device = kernels::Device::Cpu, .dtype = program.dtype};
  for (const program::Operation& operation : program.operations) {
    OperationRun run_one{.program = program,
                         .operation = operation,
                         .addresses = addresses_[index],
                         .context = context,
                         .queue = queue};
    if (operation.group.valid()) {
      run_one.group = services_->groups[index][operation.group.value];
      const auto exchange = services_->exchanges.find(operation.layer);
      if (exchange != services_->exchanges.end()) run_one.exchange = &exchange->second;
    }
    const auto start = observer_ ? Clock::now() : Clock::time_point{};
    std::visit([&](const auto& shape) { executor::run(run_one, shape); }, operation.shape);
    if (observer_) {
      const std::chrono::duration<double, std::micro> time = Clock::now() - start;
      observer_(operation, time.count());
    }
  }
}

}  // namespace imhotep::executor
