#include "core/program/streams.h"

#include <doctest/doctest.h>

#include <string_view>

#include "core/program/build.h"
#include "tests/core/random_plans.h"

namespace imhotep::program {
namespace {

// Bytes that an operand touches: in the arena, or in a buffer of its own.
struct Touch {
  int buffer = -1;  // -1: the arena
  std::int64_t begin = 0, end = 0;
};

std::int64_t gradient_elements(const Program& program, const Operation& operation,
                               const Operand& operand) {
  if (const auto* sum = std::get_if<AllReduce>(&operation.shape)) return sum->elements;
  if (const auto* fill = std::get_if<Fill>(&operation.shape)) return fill->elements;
  if (const auto* norm = std::get_if<SumSquares>(&operation.shape)) return norm->elements;
  for (std::size_t r = 0; r < program.region_gradients.size(); ++r) {
    if (program.region_gradients[r] != operand.buffer) continue;
    for (const LocalTensor& tensor : program.weights.regions[r].tensors) {
      if (tensor.offset == operand.offset && tensor.elements > 0) return tensor.elements;
    }
  }
  return program[operand.buffer].elements - operand.offset;
}

Touch touch_of(const Program& program, const Operation& operation, const Operand& operand) {
  const Buffer& buffer = program[operand.buffer];
  if (buffer.in_arena()) return {-1, buffer.offset, buffer.offset + buffer.bytes()};
  const auto id = static_cast<int>(operand.buffer.value);
  if (buffer.kind != BufferKind::Gradient) return {id, 0, 1};
  const std::int64_t end = operand.offset + gradient_elements(program, operation, operand);
  return {id, operand.offset, end};
}

bool share_bytes(const Program& program, const Operation& a, const Operands& of_a,
                 const Operation& b, const Operands& of_b) {
  for (const Operand& x : of_a) {
    if (!x.valid()) continue;
    const Touch one = touch_of(program, a, x);
    for (const Operand& y : of_b) {
      if (!y.valid()) continue;
      const Touch other = touch_of(program, b, y);
      if (one.buffer == other.buffer && one.begin < other.end && other.begin < one.end) return true;
    }
  }
  return false;
}

bool conflict(const Program& program, const Operation& a, const Operation& b) {
  return share_bytes(program, a, a.outputs, b, b.outputs) ||
         share_bytes(program, a, a.outputs, b, b.inputs) ||
         share_bytes(program, a, a.inputs, b, b.outputs);
}

// Pairs of operations on different streams that touch the same bytes, or communicate both, in
// either order of time.
int races(const Program& program) {
  const std::vector<int> done = done_elsewhere(program);
  int found = 0;
  for (std::size_t i = 0; i < program.operations.size(); ++i) {
    const Operation& late = program.operations[i];
    for (auto j = static_cast<std::size_t>(done[i]) + 1; j < i; ++j) {
      const Operation& early = program.operations[j];
      if (early.stream == late.stream) continue;
      const bool both = early.group.valid() && late.group.valid();
      if (both || conflict(program, early, late)) ++found;
    }
  }
  return found;
}

int beside_each_other(const Program& program) {
  int count = 0;
  for (const Operation& operation : program.operations) {
    count += operation.stream == Stream::Exchange ? 1 : 0;
  }
  return count;
}

std::vector<Program> programs_of(const Plan& plan, Rank rank) {
  std::vector<Program> programs;
  programs.push_back(build_train_step(plan, rank));
  programs.push_back(build_update(plan, rank));
  programs.push_back(build_evaluate(plan, rank, 2));
  programs.push_back(build_generate(
      plan, rank, {.rows = 3, .sequences = 3, .samples = 2, .max_context = 6, .context = 3}));
  return programs;
}

Plan gpu_plan(std::uint64_t seed) {
  Plan plan = test::random_plan(seed);
  plan.device = DeviceKind::Cuda;
  plan.dtype = seed % 2 == 0 ? Dtype::Bf16 : Dtype::F32;
  return plan;
}

}  // namespace

TEST_CASE("operations that touch the same bytes on two streams wait for each other") {
  int beside = 0, unplaced = 0;
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    CAPTURE(seed);
    const Plan plan = gpu_plan(seed);
    for (Program& program : programs_of(plan, Rank(static_cast<int>(seed) % plan.world))) {
      CHECK(races(program) == 0);
      beside += beside_each_other(program);
      place_buffers(program, false);  // as if all ran in order
      unplaced += races(program);
    }
  }
  CHECK(beside > 500);
  CHECK(unplaced > 0);
}

// Kernels that move rows have as many blocks at all ranks, and fewer beside a computation. Updates
// differ: of ZeRO shards ranks take different norms.
TEST_CASE("all ranks move rows on the same stream") {
  int compared = 0;
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    CAPTURE(seed);
    const Plan plan = gpu_plan(seed);
    const std::vector<Program> first = programs_of(plan, Rank(0));
    for (int rank = 1; rank < plan.world; ++rank) {
      const std::vector<Program> other = programs_of(plan, Rank(rank));
      for (std::size_t p = 0; p < first.size(); ++p) {
        if (first[p].phase == Phase::Update) continue;  // moves none
        REQUIRE(other[p].operations.size() == first[p].operations.size());
        int different = 0;
        for (std::size_t i = 0; i < first[p].operations.size(); ++i) {
          const Operation &a = first[p].operations[i], &b = other[p].operations[i];
          const bool rows = std::holds_alternative<ExchangeRows>(a.shape) ||
                            std::holds_alternative<AllGatherRows>(a.shape);
          if (!rows) continue;
          ++compared;
          different += a.stream != b.stream ? 1 : 0;
        }
        CHECK(different == 0);
      }
    }
  }
  CHECK(compared > 1000);
}

TEST_CASE("without an exchange places are those of one stream") {
  Workload workload;
  workload.sequence = 8;
  workload.global_batch = 2;
  ModelSpec model;
  model.layers = 2;
  model.hidden = 32;
  model.heads = 4;
  Plan plan = single_rank_plan(model, workload);
  plan.device = DeviceKind::Cuda;
  Program program = build_train_step(plan, Rank(0));
  const std::int64_t bytes = program.arena_bytes;
  place_buffers(program, false);
  CHECK(program.arena_bytes == bytes);
}

TEST_CASE("what the next computation needs is communicated on its stream") {
  Program p;
  p.groups.push_back({.members = {Rank(0), Rank(1)}});
  for (const char* name : {"x", "y"}) p.buffers.push_back({.name = name, .elements = 8});
  const auto op = [&](const char* name, int buffer, bool sum) {
    const Operand x{.buffer = BufferId(buffer)};
    p.operations.push_back({.name = name, .shape = Add{8}, .inputs = {x}, .outputs = {x}});
    if (!sum) return;
    p.operations.back().shape = AllReduce{8};
    p.operations.back().group = GroupId(0);
  };
  op("make_x", 0, false);
  op("make_y", 1, false);
  op("sum_x", 0, true);
  op("sum_y", 1, true);
  op("use_x", 0, false);
  op("use_y", 1, false);
  assign_streams(p);
  CHECK(p.operations[2].stream == Stream::Compute);
  CHECK(p.operations[3].stream == Stream::Exchange);
  CHECK(done_elsewhere(p) == std::vector<int>{-1, -1, -1, 2, -1, 3});
  op("sum_x_again", 0, true);
  op("use_x_again", 0, false);
  assign_streams(p);
  CHECK(p.operations[6].stream == Stream::Compute);
  CHECK(done_elsewhere(p)[6] == 3);  // all communication is one queue
}

}  // namespace imhotep::program
