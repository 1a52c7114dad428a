// The programs of GPU plans, run by CPU ranks in other orders than that of the list: whenever the
// waits between the two streams allow it, an operation of the one overtakes those of the other.
// Every rank draws an order of its own. All give the same bits, because whatever touches the same
// bytes is ordered, and the numbers of the plan's CPU programs, which sum gradients in the update.

#include <doctest/doctest.h>

#include <random>

#include "core/base/scratch.h"
#include "core/program/build.h"
#include "core/program/streams.h"
#include "executor/runtime/runner.h"
#include "executor/train/initialize.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_text.h"

namespace imhotep::executor {
namespace {

using program::Program;

// CPU kernels of attention want scratch of their own.
void add_scratch(Program& p) {
  for (program::Operation& operation : p.operations) {
    std::int64_t elements = 0;
    if (const auto* a = std::get_if<Attention>(&operation.shape)) {
      elements = attention_scratch_elements(*a);
    } else if (const auto* g = std::get_if<AttentionGrad>(&operation.shape)) {
      elements = attention_scratch_elements(*g);
    } else {
      continue;
    }
    p.buffers.push_back({.name = "scratch",
                         .layer = operation.layer,
                         .kind = program::BufferKind::Scratch,
                         .dtype = p.dtype,
                         .elements = elements});
    operation.outputs.set(operation.outputs.size() - 1,
                          {.buffer = BufferId(static_cast<std::int64_t>(p.buffers.size()) - 1)});
  }
  program::find_lifetimes(p);
  program::place_buffers(p, true);
}

enum class Order { Listed, ExchangeFirst, ExchangeLast, Random };

// Every order of time that two streams can have: each keeps its own order and waits as listed.
// Returns how many operations were overtaken.
int reorder(Program& p, Order order, std::mt19937& random) {
  if (order == Order::Listed) return 0;
  const std::vector<int> done = program::done_elsewhere(p);
  std::vector<std::size_t> queue[2];
  for (std::size_t i = 0; i < p.operations.size(); ++i) {
    queue[static_cast<std::size_t>(p.operations[i].stream)].push_back(i);
  }
  std::vector<program::Operation> listed;
  std::size_t at[2] = {0, 0};
  int overtaken = 0;
  const auto ready = [&](int s) {
    if (at[s] == queue[s].size()) return false;
    const int wait = done[queue[s][at[s]]];
    const std::size_t next = at[1 - s];
    return next == queue[1 - s].size() || static_cast<int>(queue[1 - s][next]) > wait;
  };
  while (listed.size() < p.operations.size()) {
    int s = order == Order::ExchangeFirst ? 1 : 0;
    if (order == Order::Random) s = static_cast<int>(random() % 2);
    if (!ready(s)) s = 1 - s;
    REQUIRE(ready(s));
    const std::size_t other = at[1 - s], own = queue[s][at[s]++];
    if (other < queue[1 - s].size() && queue[1 - s][other] < own) ++overtaken;
    listed.push_back(p.operations[own]);
  }
  p.operations = std::move(listed);
  return overtaken;
}

struct Programs {
  std::vector<Program> list;  // of micro-batches, then the update
  std::vector<int> micro;     // by micro-batch
};

Programs programs_of(const Plan& plan, Rank rank) {
  Programs programs;
  for (const program::MicroBatches& one : program::micro_batches(plan)) {
    programs.micro.insert(programs.micro.end(), static_cast<std::size_t>(one.count),
                          static_cast<int>(programs.list.size()));
    programs.list.push_back(program::build_train_step(plan, rank, one.options));
  }
  programs.list.push_back(program::build_update(plan, rank));
  return programs;
}

// Loss, gradient norm and all weights after two steps.
std::vector<double> train(const Plan& plan, Programs programs, CommunicatorPool& pool) {
  const Rank rank(test_bootstrap().rank());
  const auto update = static_cast<int>(programs.list.size()) - 1;
  Runner runner(plan, rank, std::move(programs.list), pool);
  initialize_weights(plan, runner, {.seed = 5});
  const std::int64_t sequence = plan.workload.sequence, tokens = plan.micro_batch * sequence;
  std::vector<double> seen;
  for (int step = 0; step < 2; ++step) {
    StepContext context{.seed = 5, .step = step};
    context.hyper = {.lr = 1e-2, .weight_decay = 0.1, .step = step + 1};
    *runner.input<double>("loss") = 0;
    for (std::size_t micro = 0; micro < programs.micro.size(); ++micro) {
      const std::int64_t first = step * plan.workload.global_batch +
                                 static_cast<std::int64_t>(micro) * plan.micro_batch * plan.data +
                                 rank_place(plan, rank).data * plan.micro_batch;
      test::fill_tiny_text(first, sequence, plan.model.vocab,
                           {runner.input<std::int32_t>("tokens"), std::size_t(tokens)},
                           {runner.input<std::int32_t>("targets"), std::size_t(tokens)});
      for (std::int64_t i = 0; i < tokens; ++i) {
        runner.input<std::int32_t>("positions")[i] = static_cast<std::int32_t>(i % sequence);
      }
      context.token_base = first * sequence;
      runner.run(programs.micro[micro], context);
    }
    runner.run(update, context);
    seen.insert(seen.end(),
                {*runner.input<double>("loss"), *runner.input<double>("gradient_norm")});
  }
  const Program& program = runner.program(0);
  for (std::size_t r = 0; r < program.weights.regions.size(); ++r) {
    const auto* weights = reinterpret_cast<const double*>(
        runner.region(program::BufferKind::Weight, static_cast<int>(r)));
    seen.insert(seen.end(), weights, weights + program.weights.regions[r].used);
  }
  return seen;
}

Programs of_gpu(Plan plan, Order order, unsigned seed, int& overtaken) {
  plan.device = DeviceKind::Cuda;
  Programs programs = programs_of(plan, Rank(test_bootstrap().rank()));
  std::mt19937 random(seed * 64 + static_cast<unsigned>(test_bootstrap().rank()));
  for (Program& program : programs.list) {
    add_scratch(program);
    overtaken += reorder(program, order, random);
  }
  return programs;
}

double worst_of(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

}  // namespace

TEST_CASE("streams may overtake each other wherever the program lets them") {
  CommunicatorPool pool(test_bootstrap());
  int overtaken = 0;
  for (const char* model : {"nano-pr-moe-2-8", "nano-top2-moe-4"}) {
    test::PlanSpace space;
    space.model = read_model(std::string(IMHOTEP_SOURCE_DIR "/profiles/models/") + model + ".json");
    space.world = test_bootstrap().world();
    space.accumulation = 3;
    space.global_batch = 3L * space.world;
    for (Plan plan : test::pairwise_cover(space, 31, 5).plans) {
      const std::string label = test::plan_label(plan);
      CAPTURE(label);
      plan.dtype = Dtype::F64;
      const std::vector<double> listed =
          train(plan, of_gpu(plan, Order::Listed, 0, overtaken), pool);
      for (const Order order : {Order::ExchangeFirst, Order::ExchangeLast, Order::Random}) {
        CAPTURE(static_cast<int>(order));
        CHECK(train(plan, of_gpu(plan, order, 3, overtaken), pool) == listed);
      }
      const Rank rank(test_bootstrap().rank());
      CHECK(worst_of(train(plan, programs_of(plan, rank), pool), listed) < 1e-10);
    }
  }
  CHECK(overtaken > 1000);
}

}  // namespace imhotep::executor
