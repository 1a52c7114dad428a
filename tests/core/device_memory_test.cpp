#include "core/program/device_memory.h"

#include <doctest/doctest.h>

#include "core/program/build.h"

using namespace imhotep;
using namespace imhotep::program;

namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr LibraryBytes kLibraries{.join_bytes = 400 * kMiB, .channel_bytes = 500 * kMiB};
constexpr LibraryBytes kBare{.join_bytes = 1};  // pages and windows, and next to no NCCL
constexpr int kLibrariesKind = static_cast<int>(BufferKind::Libraries);

Program program_of(std::initializer_list<std::pair<BufferKind, std::int64_t>> buffers) {
  Program program;
  for (const auto& [kind, bytes] : buffers) {
    program.buffers.push_back({.name = "one", .kind = kind, .elements = bytes / 4});
  }
  return program;
}

Plan decode_plan(int tensor, int data, std::int64_t batch) {
  Plan plan = single_rank_plan(
      {.layers = 2, .hidden = 512, .heads = 8, .vocab = 1024, .context = 1024},
      {.kind = WorkloadKind::Generation, .global_batch = batch, .prompt = 500, .output = 12});
  plan.device = DeviceKind::Cuda;
  plan.dtype = Dtype::Bf16;
  plan.tensor = tensor;
  plan.data = data;
  plan.world = plan.ranks_per_node = tensor * data;
  return plan;
}

std::int64_t beside(const Plan& plan, const LibraryBytes& libraries = kLibraries) {
  return plan_memory(plan, Rank(0), libraries).by_kind[kLibrariesKind];
}

}  // namespace

TEST_CASE("large blocks end with their page, small ones share pages") {
  const std::vector<Program> large = {
      program_of({{BufferKind::Weight, 3 * kMiB}, {BufferKind::Kv, 2 * kMiB}})};
  CHECK(page_waste(large) == 1 * kMiB);
  const std::vector<Program> small = {
      program_of({{BufferKind::Weight, kMiB / 2}, {BufferKind::Kv, kMiB / 2}})};
  CHECK(page_waste(small) == 1 * kMiB);
  // One block of both programs, as large as the larger needs it; the arena is a block too.
  std::vector<Program> two = {program_of({{BufferKind::Weight, 3 * kMiB}}),
                              program_of({{BufferKind::Weight, 5 * kMiB}})};
  CHECK(page_waste(two) == 1 * kMiB);
  two[1].arena_bytes = 3 * kMiB;
  CHECK(page_waste(two) == 2 * kMiB);
}

TEST_CASE("small messages of few members go through windows, all others over NCCL") {
  CHECK(fits_windows(512 << 10, 2));
  CHECK_FALSE(fits_windows((512 << 10) + 1, 2));
  CHECK(fits_windows((512 << 10) / 7, 8));
  CHECK_FALSE(fits_windows(512 << 10, 8));
  CHECK_FALSE(fits_windows(1, 17));
}

TEST_CASE("NCCL's channels are counted for groups that send more than windows take") {
  // Sums of 64 and 1024 rows of 512 bf16 over two tensor ranks: 64 KiB and 1 MiB.
  const std::int64_t few = beside(decode_plan(2, 1, 64)), many = beside(decode_plan(2, 1, 1024));
  const std::int64_t bare_few = beside(decode_plan(2, 1, 64), kBare);
  const std::int64_t bare_many = beside(decode_plan(2, 1, 1024), kBare);
  CHECK(few - bare_few == kLibraries.join_bytes - 1);
  CHECK(many - bare_many == kLibraries.join_bytes - 1 + kLibraries.channel_bytes);
  // Ranks that exchange nothing have joined all the same.
  const Plan apart = decode_plan(1, 2, 64);
  CHECK(beside(apart) - beside(apart, kBare) == kLibraries.join_bytes - 1);
  CHECK(beside(decode_plan(1, 1, 64)) == beside(decode_plan(1, 1, 64), kBare));
}

TEST_CASE(
    "CPU ranks, other systems and devices without figures have nothing beside their buffers") {
  Plan plan = decode_plan(2, 1, 64);
  CHECK(beside(plan) > 0);
  CHECK(beside(plan, {}) == 0);
  plan.style = ExecutionStyle::DeepspeedInference;
  CHECK(beside(plan) == 0);
  plan.style = ExecutionStyle::Imhotep;
  plan.device = DeviceKind::Cpu;
  CHECK(beside(plan) == 0);
}

TEST_CASE("a layer's exchange has a page for its tables") {
  Plan dense = decode_plan(1, 2, 64), routed = dense;
  routed.model.experts.slots = {4};
  routed.model.moe_interval = 1;
  const auto tables = [](const Plan& plan) {
    const std::vector<Program> programs = {build_generate(plan, Rank(0), decode_shape(plan))};
    return bytes_beside_buffers(plan, programs, kBare) - page_waste(programs);
  };
  for (int layer = 0; layer < 2; ++layer) {
    routed.moe_layers.push_back({.layer = layer, .experts = 4, .replica = 2});
  }
  CHECK(tables(routed) - tables(dense) == 2 * kDevicePage);
}
