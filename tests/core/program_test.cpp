#include "core/program/program.h"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <set>

#include "core/layout/groups.h"
#include "core/program/build.h"

namespace imhotep::program {
namespace {

ModelSpec pyramid(bool residual, int top_k) {
  ModelSpec model;
  model.name = "pyramid";
  model.layers = 6;
  model.hidden = 32;
  model.heads = 4;
  model.vocab = 250;
  model.context = 64;
  model.experts = ExpertList::parse("2x1,4x1,8x1");
  model.residual = residual;
  model.top_k = top_k;
  return model;
}

int pick(std::mt19937& random, const std::vector<int>& values) {
  return values[std::uniform_int_distribution<std::size_t>(0, values.size() - 1)(random)];
}

// A random legal plan of 1 to 16 ranks.
Plan random_plan(std::mt19937& random) {
  for (;;) {
    Plan plan;
    plan.model = pyramid(pick(random, {0, 1}) == 1, pick(random, {1, 2}));
    plan.world = pick(random, {1, 2, 4, 8, 16});
    plan.tensor = pick(random, {1, 2, 4});
    if (plan.world % plan.tensor != 0) continue;
    plan.data = plan.world / plan.tensor;
    plan.ranks_per_node = pick(random, {2, 4, 16});
    plan.zero = pick(random, {0, 1});
    plan.recompute = static_cast<Recompute>(pick(random, {0, 1, 2}));
    if (plan.recompute == Recompute::Some) plan.recompute_layers = {pick(random, {0, 1})};
    plan.accumulation = pick(random, {1, 2});
    plan.micro_batch = pick(random, {1, 3});
    plan.workload.sequence = 8;
    plan.workload.global_batch = plan.micro_batch * plan.accumulation * plan.data;
    for (int layer = 0; layer < plan.model.layers; ++layer) {
      const int experts = plan.model.experts_at(layer);
      if (experts == 0) continue;
      MoeLayerPlan moe{.layer = layer, .experts = experts};
      moe.expert = pick(random, {1, 2, 4, 8});
      moe.slicing = pick(random, {1, 2, 4});
      moe.replica = plan.world / (moe.expert * moe.slicing);
      moe.exchange = static_cast<ExchangeAlgorithm>(pick(random, {0, 1, 2}));
      plan.moe_layers.push_back(moe);
    }
    if (check_degrees(plan).feasible) return plan;
  }
}

bool in_arena(const Buffer& buffer) {
  return buffer.kind == BufferKind::Activation || buffer.kind == BufferKind::Exchange ||
         buffer.kind == BufferKind::Scratch;
}

std::vector<Program> programs_of(const Plan& plan, Rank rank) {
  std::vector<Program> programs;
  programs.push_back(build_train_step(plan, rank));
  programs.push_back(build_update(plan, rank));
  programs.push_back(build_evaluate(plan, rank, 2));
  programs.push_back(build_generate(
      plan, rank, {.rows = 3, .sequences = 3, .samples = 2, .max_context = 20, .context = 10}));
  return programs;
}

}  // namespace

TEST_CASE("buffers that live at the same time never share a byte") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const Plan plan = random_plan(random);
    for (const Program& program : programs_of(plan, Rank(pick(random, {0, plan.world - 1})))) {
      std::vector<const Buffer*> arena;
      for (const Buffer& buffer : program.buffers) {
        if (in_arena(buffer) && buffer.first_use >= 0) arena.push_back(&buffer);
      }
      std::int64_t collisions = 0;
      for (const Buffer* a : arena) {
        CHECK(a->offset % 64 == 0);
        CHECK(a->offset + a->bytes() <= program.arena_bytes);
        for (const Buffer* b : arena) {
          const bool together = a->first_use <= b->last_use && b->first_use <= a->last_use;
          const bool apart =
              a->offset + a->bytes() <= b->offset || b->offset + b->bytes() <= a->offset;
          if (a != b && together && !apart && a->bytes() > 0 && b->bytes() > 0) ++collisions;
        }
      }
      CHECK(collisions == 0);
    }
  }
}

TEST_CASE("arena buffers are written before they are read") {
  for (unsigned seed = 100; seed < 130; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const Plan plan = random_plan(random);
    for (const Program& program : programs_of(plan, Rank(0))) {
      std::set<int> written;
      for (const Operation& operation : program.operations) {
        for (const Operand& in : operation.inputs) {
          if (!in.valid() || !in_arena(program[in.buffer])) continue;
          // In-place operands are listed as outputs of an earlier operation.
          CHECK_MESSAGE(written.count(in.buffer.value) == 1, operation.name, " reads ",
                        program[in.buffer].name);
        }
        for (const Operand& out : operation.outputs) {
          if (out.valid()) written.insert(out.buffer.value);
        }
      }
    }
  }
}

TEST_CASE("operands stay inside their buffers") {
  for (unsigned seed = 200; seed < 220; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const Plan plan = random_plan(random);
    for (const Program& program : programs_of(plan, Rank(plan.world - 1))) {
      for (const Operation& operation : program.operations) {
        for (const Operands& operands : {operation.inputs, operation.outputs}) {
          for (const Operand& operand : operands) {
            if (!operand.valid()) continue;
            CHECK(operand.offset >= 0);
            CHECK(operand.offset <= program[operand.buffer].elements);
          }
        }
      }
    }
  }
}

// The router's region is fp32 in bf16 programs: what is summed there must be received as it is
// sent.
TEST_CASE("communication moves elements of one type") {
  std::mt19937 random(4);
  for (int trial = 0; trial < 60; ++trial) {
    Plan plan = random_plan(random);
    plan.dtype = Dtype::Bf16;
    plan.device = DeviceKind::Cuda;
    for (const Program& p : programs_of(plan, Rank(0))) {
      for (const Operation& op : p.operations) {
        if (!op.group.valid()) continue;
        CAPTURE(op.name);
        CHECK(p[op.inputs[0].buffer].dtype == p[op.outputs[0].buffer].dtype);
      }
    }
  }
}

TEST_CASE("members of a group list the same communication in the same order") {
  for (unsigned seed = 300; seed < 340; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const Plan plan = random_plan(random);
    std::vector<std::vector<Program>> all;
    for (int r = 0; r < plan.world; ++r) all.push_back(programs_of(plan, Rank(r)));
    for (std::size_t p = 0; p < all[0].size(); ++p) {
      std::map<Members, std::vector<std::vector<std::string>>> listed;
      for (int r = 0; r < plan.world; ++r) {
        std::map<Members, std::vector<std::string>> own;
        const Program& program = all[r][p];
        for (const Operation& operation : program.operations) {
          if (!operation.group.valid()) continue;
          const Group& group = program.groups[operation.group.value];
          CHECK(group.members[group.own_index] == Rank(r));
          own[group.members].push_back(std::string(operation.name) + "@" +
                                       std::to_string(operation.layer));
        }
        for (auto& [members, names] : own) listed[members].push_back(names);
      }
      for (const auto& [members, lists] : listed) {
        CHECK(lists.size() == members.size());
        for (const auto& names : lists) CHECK(names == lists[0]);
      }
    }
  }
}

TEST_CASE("recomputation trades activations for operations") {
  Workload workload;
  workload.sequence = 32;
  workload.global_batch = 4;
  Plan plan = single_rank_plan(pyramid(true, 1), workload);
  const Program kept = build_train_step(plan, Rank(0));
  plan.recompute = Recompute::Full;
  const Program recomputed = build_train_step(plan, Rank(0));
  CHECK(recomputed.arena_bytes < kept.arena_bytes);
  CHECK(recomputed.operations.size() > kept.operations.size());
  int repeated = 0;
  for (const Operation& operation : recomputed.operations) {
    repeated += operation.pass == Pass::Recompute ? 1 : 0;
    if (operation.pass == Pass::Recompute) CHECK(std::string(operation.name) != "residual_mix");
  }
  CHECK(recomputed.operations.size() == kept.operations.size() + repeated);
  plan.recompute = Recompute::Some;
  plan.recompute_layers = {1};
  const Program some = build_train_step(plan, Rank(0));
  CHECK(some.arena_bytes < kept.arena_bytes);
  CHECK(some.arena_bytes > recomputed.arena_bytes);
  for (const Operation& operation : some.operations) {
    if (operation.pass == Pass::Recompute) CHECK(operation.layer == 1);
  }
}

TEST_CASE("ZeRO-1 divides the optimizer state by the group") {
  Workload workload;
  workload.sequence = 8;
  workload.global_batch = 8;
  Plan plan = single_rank_plan(pyramid(true, 1), workload);
  plan.world = 8;
  plan.data = 8;
  plan.micro_batch = 1;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = 2;
    moe.replica = 4;
  }
  const auto optimizer = [&](int zero) {
    plan.zero = zero;
    return memory_use(build_update(plan, Rank(3))).by_kind[int(BufferKind::Optimizer)];
  };
  const WeightLayout layout = weight_layout(plan, Rank(3));
  CHECK(optimizer(0) == 2 * 4 * layout.elements());
  CHECK(optimizer(1) == 2 * 4 * (layout.regions[0].elements / 8 + layout.regions[1].elements / 4));
}

}  // namespace imhotep::program
