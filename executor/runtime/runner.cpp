#include "executor/runtime/runner.h"

#include <chrono>
#include <cstring>
#include <type_traits>

#include "core/base/fail.h"
#include "executor/runtime/device_check.h"
#include "executor/runtime/own_device.h"
#include "executor/runtime/services.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {

namespace {

void check_cuda(const Plan& plan) {
  const kernels::CudaApi& api = kernels::cuda_api();
  if (const std::string why = why_no_device(api); !why.empty()) {
    fail_missing(
        "the plan is for GPUs; this machine has none that CUDA sees: {}; try: imhotep plan {} "
        "--cluster local",
        why, plan.model.name);
  }
  if (plan.dtype != Dtype::F32 && plan.dtype != Dtype::Bf16) {
    fail_missing("GPUs run bf16 and fp32; the plan asks for {}", name_of(plan.dtype));
  }
  check_own_device(plan.world);
  kernels::cuda_api().use_device(own_device());
}

}  // namespace

void check_runnable(const Plan& plan) {
  if (!plan.executable) fail_missing("the plan can be priced but not run");
  if (plan.device == DeviceKind::Cuda) return check_cuda(plan);
  if (plan.dtype != Dtype::F32 && plan.dtype != Dtype::F64) {
    fail_missing("CPU ranks run fp32 and fp64; the plan asks for {}", name_of(plan.dtype));
  }
}

kernels::Device device_of(const Plan& plan) {
  return plan.device == DeviceKind::Cuda ? kernels::Device::Cuda : kernels::Device::Cpu;
}

Runner::Runner(const Plan& plan, Rank rank, std::vector<program::Program> programs,
               CommunicatorPool& pool)
    : plan_(plan),
      rank_(rank),
      programs_(std::move(programs)),
      memory_((check_runnable(plan_), programs_), device_of(plan)) {
  if (device_of(plan) == kernels::Device::Cuda) {
    cuda_ = std::make_unique<CudaRank>(memory_, programs_.size());
  }
  services_ = std::make_unique<Services>(plan_, rank_, programs_, memory_, pool, cuda_.get());
  for (const program::Program& program : programs_) {
    addresses_.push_back(memory_.addresses(program));
  }
}

Runner::~Runner() = default;

// Others point to operations, which stay where they are when programs move.
static_assert(std::is_nothrow_move_constructible_v<program::Program>);

int Runner::add(program::Program program) {
  programs_.push_back(std::move(program));
  addresses_.push_back(memory_.addresses(programs_.back()));
  services_->add(programs_.back(), memory_);
  return static_cast<int>(programs_.size()) - 1;
}

std::optional<Overflow> Runner::take_overflow() {
  std::optional<Overflow> most = services_->take_overflow();
  if (!cuda_) return most;
  if (auto found = cuda_->take_overflow()) {
    found->rank = rank_;
    if (!most || says_more(*found, *most)) most = found;
  }
  return most;
}

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

kernels::Queue Runner::queue(Dtype dtype) const {
  if (cuda_) return cuda_->queue(dtype);
  return {.device = kernels::Device::Cpu, .dtype = dtype};
}

void Runner::wait() const {
  if (cuda_) cuda_->wait();
}

void Runner::walk(int index, const StepContext& context, const kernels::Queue& queue,
                  const CudaRank::Step& after) {
  const program::Program& program = programs_[index];
  const Bootstrap& bootstrap = services_->bootstrap();
  for (const program::Operation& operation : program.operations) {
    bootstrap.at(operation.layer, operation.name, operation.group.valid());
    OperationRun run_one{.program = program,
                         .operation = operation,
                         .addresses = addresses_[index],
                         .context = context,
                         .queue = queue};
    if (cuda_) run_one.queue.fault = cuda_->fault_of(operation.layer);
    services_->serve(static_cast<std::size_t>(index), run_one);
    if (cuda_) kernels::cuda_api().range_push(operation.name);
    std::visit([&](const auto& shape) { executor::run(run_one, shape); }, operation.shape);
    if (cuda_) kernels::cuda_api().range_pop();
    after(operation);
  }
  bootstrap.at(-1, "", false);
}

// Parameters of sampling are data like others: what changes from step to step must not be part of
// a captured graph.
void Runner::put_sampling(const program::Program& program, const StepContext& context) {
  const BufferId id = program.find("sampling");
  if (!id.valid() || context.sampling.empty()) return;
  const auto bytes =
      static_cast<std::int64_t>(context.sampling.size() * sizeof(kernels::SampleParameters));
  if (bytes != program[id].bytes()) {
    fail("sampling: expected parameters of {} bytes, got {}", program[id].bytes(), bytes);
  }
  std::memcpy(input<std::byte>("sampling"), context.sampling.data(),
              static_cast<std::size_t>(bytes));
}

std::vector<double> Runner::time_us(int index, const StepContext& context,
                                    const CudaRank::Repeats& how) {
  using Clock = std::chrono::steady_clock;
  if (cuda_ && services_->capturable()) {
    run(index, context);  // chooses algorithms, and finds no overflow that a replay would have
    return cuda_->replay_us(programs_[index].dtype, how,
                            [&](const kernels::Queue& one, const CudaRank::Step& after) {
                              walk(index, context, one, after);
                            });
  }
  std::vector<double> times;
  for (int i = 0; i <= how.repeats; ++i) {
    const auto start = Clock::now();
    run(index, context);
    const std::chrono::duration<double, std::micro> time = Clock::now() - start;
    if (i > 0) times.push_back(time.count());
  }
  return times;
}

void Runner::run_watched(int index, const StepContext& context, const CudaRank::Step& look) {
  const program::Program& program = programs_[index];
  put_sampling(program, context);
  if (!cuda_) {
    walk(index, context, queue(program.dtype), look);
    return static_cast<void>(take_overflow());
  }
  const auto walked = [&](const kernels::Queue& one, const CudaRank::Step&) {
    walk(index, context, one, [&](const program::Operation& operation) {
      cuda_->wait();
      look(operation);
    });
  };
  cuda_->run(static_cast<std::size_t>(index), program.dtype, false, walked);
  static_cast<void>(take_overflow());
}

void Runner::run(int index, const StepContext& context) {
  if (const auto overflow = try_run(index, context)) fail("{}", describe(*overflow));
}

std::optional<Overflow> Runner::try_run(int index, const StepContext& context) {
  run_once(index, context);
  return take_overflow();
}

void Runner::run_once(int index, const StepContext& context) {
  using Clock = std::chrono::steady_clock;
  const program::Program& program = programs_[index];
  put_sampling(program, context);
  if (!cuda_) {
    auto start = Clock::now();
    return walk(index, context, queue(program.dtype), [&](const program::Operation& operation) {
      if (!observer_) return;
      const auto now = Clock::now();
      observer_(operation, std::chrono::duration<double, std::micro>(now - start).count());
      start = Clock::now();
    });
  }
  const auto walked = [&](const kernels::Queue& one, const CudaRank::Step& after) {
    walk(index, context, one, after);
  };
  const auto at = static_cast<std::size_t>(index);
  const bool replay = program.phase == program::Phase::Generate && services_->capturable();
  if (observer_) return cuda_->run_observed(at, program.dtype, replay, walked, observer_);
  cuda_->run(at, program.dtype, replay, walked);
}

}  // namespace imhotep::executor
