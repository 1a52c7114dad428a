#include "executor/bench/bench.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "core/layout/groups.h"
#include "core/program/build.h"
#include "core/program/device_memory.h"
#include "core/spec/parameters.h"
#include "executor/bench/counts.h"
#include "executor/bench/device_data.h"
#include "executor/runtime/step_times.h"
#include "executor/train/trainer.h"

namespace imhotep::executor {
namespace {

Plan plan_for(const BenchRequest& request, const Workload& workload) {
  Plan plan = single_rank_plan(request.model, workload);
  plan.dtype = request.dtype;
  if (request.device == kernels::Device::Cuda) plan.device = DeviceKind::Cuda;
  plan.prefill_chunk = usual_prefill_chunk(plan.device);
  if (!request.layout) return plan;
  const Plan& layout = *request.layout;
  plan.world = layout.world;
  plan.tensor = layout.tensor;
  plan.data = layout.data;
  plan.zero = layout.zero;
  plan.rank_order = layout.rank_order;
  plan.ranks_per_node = layout.ranks_per_node;
  plan.moe_layers.clear();
  for (MoeLayerPlan moe : layout.moe_layers) {
    if (moe.layer >= plan.model.layers) continue;
    moe.experts = plan.model.experts_at(moe.layer);
    plan.moe_layers.push_back(moe);
  }
  if (workload.kind == WorkloadKind::Training) {
    plan.recompute = layout.recompute;
    plan.accumulation = layout.accumulation;
    plan.micro_batch = layout.micro_batch > 0
                           ? layout.micro_batch
                           : workload.global_batch / plan.data / plan.accumulation;
  }
  if (const Verdict verdict = check_degrees(plan); !verdict.feasible) {
    fail_input("these degrees cannot be: {}", verdict.reasons.front());
  }
  return plan;
}

int data_degree(const BenchRequest& request) { return request.layout ? request.layout->data : 1; }

Workload training_of(std::int64_t batch, std::int64_t sequence) {
  Workload workload;
  workload.global_batch = batch;
  workload.sequence = sequence;
  return workload;
}

// The operations of a program that `wanted` names, with all buffers where they were.
template <class Wanted>
program::Program part_of(const program::Program& whole, Wanted wanted) {
  program::Program part = whole;
  std::erase_if(part.operations, [&](const program::Operation& o) { return !wanted(o); });
  return part;
}

// Random values for everything that the program's operations read and none of them makes first.
void fill_open_inputs(const Runner& runner, int index, std::uint64_t seed) {
  const program::Program& program = runner.program(index);
  std::vector<bool> known(program.buffers.size(), false);
  for (const program::Operation& operation : program.operations) {
    for (const program::Operand& in : operation.inputs) {
      if (!in.valid() || known[in.buffer.value]) continue;
      known[in.buffer.value] = true;
      const program::Buffer& buffer = program[in.buffer];
      const bool open = buffer.kind == program::BufferKind::Activation ||
                        buffer.kind == program::BufferKind::Exchange;
      if (open && buffer.dtype != Dtype::I32) fill_random(runner, index, in.buffer, 1, seed);
    }
    for (const program::Operand& out : operation.outputs) {
      if (out.valid()) known[out.buffer.value] = true;
    }
  }
}

struct Ranks {
  CommunicatorPool pool;
  Rank rank;
  explicit Ranks(const Bootstrap& bootstrap) : pool(bootstrap), rank(bootstrap.rank()) {}
};

// Repeats `work` under an observer; operations do not overlap then.
template <class Work>
std::vector<OperationTime> observed(Runner& runner, Work work) {
  StepTimes times;
  runner.observe(
      [&](const program::Operation& operation, double time_us) { times.add(operation, time_us); });
  for (int i = 0; i < 5; ++i) {
    work(i);
    times.end_step(0);
  }
  runner.observe({});
  return times.operations();
}

// What a step takes for the host, which puts inputs in and takes results out.
template <class Work>
std::vector<double> on_clock(int repeats, Work work) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  for (int i = 0; i <= repeats; ++i) {
    const auto start = Clock::now();
    work(i);
    const std::chrono::duration<double, std::micro> time = Clock::now() - start;
    if (i > 0) times.push_back(time.count());
  }
  return times;
}

BenchResult timed(const BenchRequest& request, Runner& runner, int program, int copies = 1) {
  const std::int64_t before = device_bytes_used(request.device);
  const CudaRank::Repeats how{.repeats = request.repeats, .cold = copies == 1, .copies = copies};
  BenchResult result;
  result.times_us = runner.time_us(program, {.seed = request.seed}, how);
  result.memory_bytes = runner.memory().bytes();
  result.device_bytes = std::max(before, device_bytes_used(request.device));
  if (request.operations) {
    const auto work = [&](int) { runner.run(program, {.seed = request.seed}); };
    result.clock_us = on_clock(request.repeats, work);
    result.operations = observed(runner, work);
  }
  return result;
}

// The operations of that name, with the buffers of the whole program; none for an empty name.
program::Program only(const program::Program& whole, const std::string& name) {
  program::Program part =
      part_of(whole, [&](const program::Operation& o) { return name == o.name; });
  if (!name.empty() && part.operations.empty()) {
    std::set<std::string_view> names;
    for (const program::Operation& operation : whole.operations) names.insert(operation.name);
    fail_input("no operation is called \"{}\"; there are {}", name, fmt::join(names, ", "));
  }
  return part;
}

// Every buffer in a place of its own: what one operation alone reads is still there.
program::Program kept_apart(program::Program program) {
  constexpr std::int64_t kAlignment = 256;
  std::int64_t end = 0;
  for (program::Buffer& buffer : program.buffers) {
    const bool arena = buffer.kind == program::BufferKind::Activation ||
                       buffer.kind == program::BufferKind::Exchange ||
                       buffer.kind == program::BufferKind::Scratch;
    if (!arena) continue;
    buffer.offset = end;
    end += (buffer.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  program.arena_bytes = end;
  return program;
}

// Program 0, or one of the operations of program 1 after program 0 has run: many in one graph, as
// in a step.
BenchResult timed_part(const BenchRequest& request, Runner& runner) {
  if (request.only.empty()) return timed(request, runner, 0);
  runner.run(0, {.seed = request.seed});
  const auto each = static_cast<int>(runner.program(1).operations.size());
  constexpr int kOperations = 48;  // of a graph, at least
  const int copies = (kOperations + each - 1) / each;
  BenchResult result = timed(request, runner, 1, std::max(copies, 2));
  for (double& time : result.times_us) time /= each;
  return result;
}

bool is_routed(const program::Operation& o) {
  return std::visit(
             []<class T>(const T&) {
               return std::is_same_v<T, Route> || std::is_same_v<T, RouteGrad> ||
                      std::is_same_v<T, PackOrder> || std::is_same_v<T, ReceiveOrder> ||
                      std::is_same_v<T, GatherRows> || std::is_same_v<T, Combine> ||
                      std::is_same_v<T, CombineGrad> || std::is_same_v<T, ScatterSum> ||
                      std::is_same_v<T, GroupedGemm> || std::is_same_v<T, GroupedColumnSum> ||
                      std::is_same_v<T, ExchangeCounts> || std::is_same_v<T, ExchangeRows> ||
                      std::is_same_v<T, AllGatherRows>;
             },
             o.shape) ||
         std::string_view(o.name).starts_with("gate");
}

// One block with experts and one without, on `tokens` tokens.
ModelSpec one_layer(const BenchRequest& request) {
  ModelSpec model = request.model;
  model.layers = model.moe_interval;
  model.experts.slots.resize(1);
  model.residual = false;
  model.context = static_cast<int>(request.batch);
  return model;
}

}  // namespace

double BenchResult::time_us() const { return median(times_us); }
double BenchResult::spread() const { return relative_spread(times_us); }

BenchResult bench_training(const BenchRequest& request, const Bootstrap& bootstrap) {
  Ranks ranks(bootstrap);
  const ModelSpec& model = request.model;
  const Plan plan = plan_for(request, training_of(request.batch, request.sequence));
  const std::int64_t before = device_bytes_used(request.device);
  Trainer trainer(plan, ranks.rank, ranks.pool, {.initialize = {.seed = request.seed}});
  trainer.initialize();
  const BatchSource batch = [&](std::int64_t first, auto inputs, auto targets) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::uint64_t word = hash(5, static_cast<std::uint64_t>(first), i);
      inputs[i] = static_cast<std::int32_t>(word % model.vocab);
      targets[i] = static_cast<std::int32_t>((word >> 20) % model.vocab);
    }
  };
  constexpr int kWarmUp = 3;
  BenchResult result;
  for (int step = 0; step < request.repeats + kWarmUp; ++step) {
    if (step == kWarmUp) static_cast<void>(trainer.take_expert_load());
    const StepResult done = trainer.step(step, batch);
    if (step >= kWarmUp) result.times_us.push_back(done.time_us);
    if (request.progress) request.progress(step + 1, request.repeats + kWarmUp);
  }
  result.expert_load = trainer.take_expert_load();
  if (request.operations) {
    result.operations = observed(
        trainer.runner(), [&](int i) { trainer.step(request.repeats + kWarmUp + i, batch); });
  }
  result.plan = plan;
  result.clock_us = result.times_us;
  result.tokens = static_cast<double>(request.batch * request.sequence);
  const double context = static_cast<double>(request.sequence + 1) / 2;
  result.flops = 3 * forward_flops(model, context) * result.tokens;
  if (plan.world == 1) result.bytes = update_bytes(trainer.weights());
  result.memory_bytes = trainer.runner().memory().bytes();
  result.beside_bytes =
      program::bytes_beside_buffers(plan, trainer.runner().programs(), request.libraries);
  result.device_bytes = device_bytes_used(request.device) - before;
  return result;
}

BenchResult bench_decode(const BenchRequest& request, const Bootstrap& bootstrap) {
  Ranks ranks(bootstrap);
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  workload.global_batch = request.batch;
  workload.prompt = request.context;
  workload.output = 1;
  const Plan plan = plan_for(request, workload);
  const std::int64_t batch = plan.sequences_per_rank(), context = request.context;
  const std::int64_t first = batch * rank_place(plan, ranks.rank).data;
  program::Program program = program::build_generate(plan, ranks.rank,
                                                     {.rows = batch,
                                                      .sequences = batch,
                                                      .samples = batch,
                                                      .max_context = context + 1,
                                                      .context = static_cast<double>(context + 1)});
  if (request.routing != Routing::Natural) add_gate_noise(program);
  if (!request.only.empty()) program = kept_apart(std::move(program));
  const std::int64_t before = device_bytes_used(request.device);
  Runner runner(plan, ranks.rank, {program, only(program, request.only)}, ranks.pool);
  initialize_weights(plan, runner, {.seed = request.seed});
  if (request.routing != Routing::Natural) {
    draw_routes(runner, 0,
                {.routing = request.routing,
                 .top_k = request.model.top_k,
                 .first_token = first,
                 .seed = request.seed});
  }
  for (std::size_t b = 0; b < program.buffers.size(); ++b) {
    const std::string_view name = program.buffers[b].name;
    if (name == "keys" || name == "values") {
      fill_random(runner, 0, BufferId(static_cast<std::int64_t>(b)), 1, request.seed);
    }
  }
  const std::int64_t pages = (context + plan.page_size) / plan.page_size;
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto row = static_cast<std::uint64_t>(first + i);
    runner.input<std::int32_t>("tokens")[i] =
        static_cast<std::int32_t>(hash(9, row) % request.model.vocab);
    runner.input<std::int32_t>("positions")[i] = static_cast<std::int32_t>(context);
    runner.input<std::int32_t>("used")[i] = 1;
    runner.input<std::int32_t>("sequences")[i] = static_cast<std::int32_t>(i);
    runner.input<std::int32_t>("sample_rows")[i] = static_cast<std::int32_t>(i);
    for (std::int64_t p = 0; p < pages; ++p) {
      runner.input<std::int32_t>("block_table")[i * pages + p] =
          static_cast<std::int32_t>(i * pages + p);
    }
  }
  runner.input<std::int32_t>("sample_range")[0] = 0;
  runner.input<std::int32_t>("sample_range")[1] = static_cast<std::int32_t>(batch);
  BenchResult result = timed_part(request, runner);
  result.plan = plan;
  result.beside_bytes = program::bytes_beside_buffers(plan, runner.programs(), request.libraries);
  result.device_bytes -= before;
  if (!request.only.empty()) return result;
  result.tokens = static_cast<double>(batch * plan.data);
  result.flops = forward_flops(request.model, static_cast<double>(context + 1)) * result.tokens;
  if (plan.world > 1) return result;
  const Touched touched = touched_experts(plan, runner);
  result.distinct_experts = touched.experts;
  result.bytes = decode_bytes(plan, runner.program(0).weights, touched, batch * (context + 1));
  return result;
}

BenchResult bench_prefill(const BenchRequest& request, const Bootstrap& bootstrap) {
  Ranks ranks(bootstrap);
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  workload.global_batch = request.batch;
  workload.prompt = request.context;
  workload.output = 1;
  const Plan plan = plan_for(request, workload);
  const std::int64_t chunk = std::min<std::int64_t>(plan.prefill_chunk, request.context);
  const std::int64_t before = device_bytes_used(request.device);
  Runner runner(plan, ranks.rank,
                {program::build_generate(plan, ranks.rank, program::prefill_shape(plan))},
                ranks.pool);
  initialize_weights(plan, runner, {.seed = request.seed});
  const std::int64_t pages = (request.context + plan.page_size) / plan.page_size;
  for (std::int64_t p = 0; p < pages; ++p) {
    runner.input<std::int32_t>("block_table")[p] = static_cast<std::int32_t>(p);
  }
  BenchResult result;
  result.times_us.assign(request.repeats, 0);
  for (std::int64_t begin = 0; begin < request.context; begin += chunk) {
    const std::int64_t rows = std::min(chunk, request.context - begin);
    for (std::int64_t i = 0; i < chunk; ++i) {
      const bool used = i < rows;
      runner.input<std::int32_t>("tokens")[i] =
          used ? static_cast<std::int32_t>(hash(9, begin + i) % request.model.vocab) : -1;
      runner.input<std::int32_t>("positions")[i] = used ? static_cast<std::int32_t>(begin + i) : -1;
      runner.input<std::int32_t>("used")[i] = used ? 1 : 0;
      runner.input<std::int32_t>("sequences")[i] = 0;
    }
    runner.input<std::int32_t>("sample_rows")[0] = static_cast<std::int32_t>(rows - 1);
    runner.input<std::int32_t>("sample_range")[0] = 0;
    runner.input<std::int32_t>("sample_range")[1] = 1;
    if (request.operations && begin == 0) {
      const auto work = [&](int) { runner.run(0, {}); };
      // A report is of one whole prompt: of several chunks the first does not speak.
      if (chunk == request.context) result.clock_us = on_clock(request.repeats, work);
      result.operations = observed(runner, work);
      if (!plan.moe_layers.empty()) result.expert_load = expert_shares(plan, runner);
    }
    const auto times = runner.time_us(0, {}, {.repeats = request.repeats});
    for (int i = 0; i < request.repeats; ++i) {
      result.times_us[i] += times[i] * static_cast<double>(request.batch);
    }
  }
  result.plan = plan;
  result.tokens = static_cast<double>(request.batch * request.context);
  result.flops =
      forward_flops(request.model, static_cast<double>(request.context + 1) / 2) * result.tokens;
  result.memory_bytes = runner.memory().bytes();
  result.beside_bytes = program::bytes_beside_buffers(plan, runner.programs(), request.libraries);
  result.device_bytes = device_bytes_used(request.device) - before;
  return result;
}

BenchResult bench_layer(const BenchRequest& request, const Bootstrap& bootstrap) {
  Ranks ranks(bootstrap);
  const ModelSpec model = one_layer(request);
  BenchRequest asked = request;
  asked.model = model;
  const int data = data_degree(request);
  const Plan plan = plan_for(asked, training_of(data, request.batch / data));
  const program::Program whole = program::build_train_step(plan, ranks.rank);
  program::Program part = part_of(whole, [&](const program::Operation& o) {
    return is_routed(o) && o.layer == model.moe_interval - 1 &&
           (request.backward || o.pass == program::Pass::Forward);
  });
  if (!request.only.empty()) part = kept_apart(std::move(part));
  Runner runner(plan, ranks.rank, {part, only(part, request.only)}, ranks.pool);
  initialize_weights(plan, runner, {.seed = request.seed});
  fill_open_inputs(runner, 0, request.seed);
  BenchResult result = timed_part(request, runner);
  if (!request.only.empty()) return result;
  const double h = model.hidden, f = model.ffn(),
               experts = model.experts_at(model.moe_interval - 1);
  result.tokens = static_cast<double>(request.batch);
  const double passes = request.backward ? 3 : 1;
  result.flops = passes * result.tokens * (4 * h * f * model.top_k + 2 * h * experts);
  result.distinct_experts = touched_experts(plan, runner).experts;
  if (plan.world > 1) return result;
  const auto size = static_cast<double>(bytes_of(request.dtype));
  result.bytes = passes * (result.distinct_experts * 2 * h * f + 2 * result.tokens * h) * size;
  return result;
}

// A few microseconds: many in one graph, as in a step, where the logits were just written.
constexpr int kGateCopies = 20;

BenchResult bench_gate(const BenchRequest& request, const Bootstrap& bootstrap) {
  Ranks ranks(bootstrap);
  const ModelSpec model = one_layer(request);
  BenchRequest asked = request;
  asked.model = model;
  const Plan plan = plan_for(asked, training_of(1, request.batch));
  const program::Program part =
      part_of(program::build_train_step(plan, ranks.rank), [&](const program::Operation& o) {
        return o.pass == program::Pass::Forward && (std::holds_alternative<Route>(o.shape) ||
                                                    std::holds_alternative<PackOrder>(o.shape));
      });
  Runner runner(plan, ranks.rank, {part}, ranks.pool);
  fill_open_inputs(runner, 0, request.seed);
  BenchResult result = timed(request, runner, 0, kGateCopies);
  result.tokens = static_cast<double>(request.batch);
  const double experts = model.experts_at(model.moe_interval - 1);
  result.bytes = result.tokens * (2 * experts + 4 * model.top_k) * 4;  // logits, probs, tables
  return result;
}

BenchResult bench_optimizer(const BenchRequest& request, const Bootstrap& bootstrap) {
  Ranks ranks(bootstrap);
  const Plan plan = plan_for(request, training_of(1, 128));
  const program::Program whole = program::build_update(plan, ranks.rank);
  const program::Program part = part_of(
      whole, [](const program::Operation& o) { return std::holds_alternative<AdamW>(o.shape); });
  Runner runner(plan, ranks.rank, {whole, part}, ranks.pool);
  initialize_weights(plan, runner, {.seed = request.seed});
  for (const BufferId gradient : whole.region_gradients) {
    fill_random(runner, 0, gradient, 1e-3, request.seed);
  }
  const OptimizerSpec optimizer;
  const StepContext context{.hyper = {.lr = 1e-4, .weight_decay = optimizer.weight_decay}};
  runner.run(0, context);  // leaves the clipping factor
  BenchResult result;
  result.times_us = runner.time_us(1, context, {.repeats = request.repeats});
  result.bytes = update_bytes(whole.weights);
  result.memory_bytes = runner.memory().bytes();
  return result;
}

}  // namespace imhotep::executor
