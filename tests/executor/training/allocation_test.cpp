// A step allocates nothing beside the buffers of its programs: every malloc of the process is
// watched while a step runs, and the address space must not grow.

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>

#include "core/program/build.h"
#include "executor/generate/generator.h"
#include "executor/train/trainer.h"
#include "tests/executor/plans/tiny_text.h"

namespace {

struct Watch {
  bool on = false;
  std::size_t largest = 0, total = 0, calls = 0;
};
thread_local Watch watch;

}  // namespace

// operator new ends here too.
extern "C" void* __libc_malloc(std::size_t bytes);  // NOLINT(bugprone-reserved-identifier)
extern "C" void* malloc(std::size_t bytes) {
  if (watch.on) {
    watch.largest = std::max(watch.largest, bytes);
    watch.total += bytes;
    ++watch.calls;
  }
  return __libc_malloc(bytes);
}

namespace imhotep::executor {
namespace {

constexpr std::size_t kSmall = 4096;  // bytes; a buffer of the models below is larger
// OpenBLAS's AVX-512 kernels of small products take temporaries of up to 4 KiB from malloc and give
// them back: 384 KiB in a step of nano-dense, none with its AVX2 kernels.
constexpr std::int64_t kLibraries = 1 << 20;

std::int64_t address_space_pages() {
  std::int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages;
}

template <class Step>
Watch watched(Step&& step) {
  const std::int64_t before = address_space_pages();
  watch = {.on = true};
  step();
  watch.on = false;
  CHECK(address_space_pages() <= before);  // the first reading may give back what it mapped
  return watch;
}

ModelSpec model_of(const std::string& name) {
  return read_model(IMHOTEP_SOURCE_DIR "/profiles/models/" + name + ".json");
}

Plan training_plan(const std::string& name) {
  Workload workload{.global_batch = 8, .sequence = 32};
  Plan plan = single_rank_plan(model_of(name), workload);
  plan.micro_batch = 4;
  plan.accumulation = 2;
  plan.recompute = Recompute::Full;
  return plan;
}

// What the programs need, each buffer that outlives a program once: regions and KV pools by kind,
// inputs by name.
std::int64_t needed_bytes(const std::vector<program::Program>& programs) {
  std::array<std::int64_t, program::kBufferKinds> most{};
  std::map<std::string, std::int64_t> inputs;
  for (const program::Program& program : programs) {
    const program::MemoryUse use = program::memory_use(program);
    for (int kind = 0; kind < program::kBufferKinds; ++kind) {
      most[kind] = std::max(most[kind], use.by_kind[kind]);
    }
    for (const program::Buffer& buffer : program.buffers) {
      if (buffer.kind != program::BufferKind::Input) continue;
      std::int64_t& bytes = inputs[buffer.name];
      bytes = std::max(bytes, buffer.bytes());
    }
  }
  std::int64_t total = 0;
  for (const auto& [name, bytes] : inputs) total += bytes;
  for (int kind = 0; kind < program::kBufferKinds; ++kind) {
    if (kind != static_cast<int>(program::BufferKind::Input)) total += most[kind];
  }
  return total;
}

}  // namespace

TEST_CASE("the watch sees what is allocated") {
  const Watch seen = watched([] { std::vector<char>(kSmall + 1).swap(*new std::vector<char>); });
  CHECK(seen.largest == kSmall + 1);
}

TEST_CASE("a training step allocates nothing beside its buffers") {
  for (const char* name : {"tiny-pr-moe-4-8", "nano-top2-moe-4", "nano-dense"}) {
    CAPTURE(std::string(name));
    const Plan plan = training_plan(name);
    const Bootstrap ranks;
    CommunicatorPool pool(ranks);
    Trainer trainer(plan, Rank(0), pool, {.evaluate_sequences = 4});
    trainer.initialize();
    const BatchSource batch = [&](std::int64_t first, auto inputs, auto targets) {
      test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, inputs, targets);
    };
    for (int step = 0; step < 2; ++step) static_cast<void>(trainer.step(step, batch));
    static_cast<void>(trainer.evaluate(0, batch));
    const Watch training = watched([&] { static_cast<void>(trainer.step(2, batch)); });
    CHECK(training.largest <= kSmall);
    CHECK(training.total <= kLibraries);
    const Watch evaluating = watched([&] { static_cast<void>(trainer.evaluate(0, batch)); });
    CHECK(evaluating.largest <= kSmall);
    CHECK(evaluating.total <= kLibraries);
  }
}

TEST_CASE("generation allocates nothing beside its buffers") {
  Workload workload{
      .kind = WorkloadKind::Generation, .global_batch = 3, .prompt = 40, .output = 40};
  Plan plan = single_rank_plan(model_of("tiny-pr-moe-4-8"), workload);
  plan.prefill_chunk = 16;
  const Bootstrap ranks;
  CommunicatorPool pool(ranks);
  Generator generator(plan, Rank(0), pool, 1);
  std::vector<GenerationRequest> requests(3, {.prompt = std::vector<std::int32_t>(37, 5),
                                              .max_tokens = 40,
                                              .temperature = 0.8,
                                              .top_k = 20,
                                              .top_p = 0.9});
  const auto all = [](bool done) { return done; };
  static_cast<void>(generator.generate(requests, all));
  const Watch seen = watched([&] { static_cast<void>(generator.generate(requests, all)); });
  CHECK(seen.largest <= kSmall);
}

TEST_CASE("memory holds the buffers of the programs and no byte more") {
  for (const char* name : {"tiny-pr-moe-4-8", "nano-moe-8", "nano-dense"}) {
    for (const int zero : {0, 1}) {
      Plan plan = training_plan(name);
      plan.zero = zero;
      const Bootstrap ranks;
      CommunicatorPool pool(ranks);
      const Trainer trainer(plan, Rank(0), pool, {.evaluate_sequences = 6});
      std::vector<program::Program> programs;
      for (int i = 0; i <= trainer.update_program() + 1; ++i) {
        programs.push_back(trainer.runner().program(i));
      }
      CHECK(trainer.runner().memory().bytes() == needed_bytes(programs));
      // The plan's own account knows no evaluation, and of inputs the largest program's.
      const Trainer only_trains(plan, Rank(0), pool, {});
      const std::int64_t planned = program::plan_memory(plan, Rank(0)).total();
      const std::int64_t beyond = only_trains.runner().memory().bytes() - planned;
      CHECK(beyond >= 0);
      CHECK(beyond <= 64);
    }
  }
}

}  // namespace imhotep::executor
