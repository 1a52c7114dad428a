#pragma once
// Walks a program: every operation in order, each by the kernel or collective of its family.
// Ranks run one operation at a time, whatever its stream. On a GPU the host only enqueues them;
// steps of generation are replayed as CUDA graphs.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/program/program.h"
#include "core/spec/plan.h"
#include "executor/comm/communicator_pool.h"
#include "executor/comm/overflow.h"
#include "executor/runtime/cuda_rank.h"
#include "executor/runtime/memory.h"
#include "kernels/queue.h"
#include "kernels/sample.h"
#include "kernels/update.h"

namespace imhotep::executor {

// Throws: Missing when this program cannot run the plan here: another device or dtype, too few
// GPUs, priced only.
void check_runnable(const Plan& plan);
// Where the ranks of a plan run.
[[nodiscard]] kernels::Device device_of(const Plan& plan);

// What changes from step to step without being in a buffer.
struct StepContext {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  std::int64_t token_base = 0;  // global index of this rank's first token in the step
  kernels::AdamWHyper hyper;
  std::vector<kernels::SampleParameters> sampling;  // one a sampled row
};

// Called after each operation with its duration.
using Observer = std::function<void(const program::Operation& operation, double time_us)>;

class Services;

class Runner {
 public:
  // Requires: all programs of the rank that will run; `pool` outlives the runner.
  Runner(const Plan& plan, Rank rank, std::vector<program::Program> programs,
         CommunicatorPool& pool);
  ~Runner();

  // One more program, which needs no more memory than the rank has. Collective over the ranks of
  // the plan. Returns its index.
  int add(program::Program program);

  // Returns when the results are in the inputs.
  // Throws: Failed when an exchange would have brought more rows than a bound.
  void run(int program, const StepContext& context);
  // The same, but it returns what says most about such an exchange, as this rank knows it; the
  // ranks of other groups know nothing. Results are then of no use.
  [[nodiscard]] std::optional<Overflow> try_run(int program, const StepContext& context);
  // As try_run, but `look` is called after each operation, when its results are there. Slow.
  void run_watched(int program, const StepContext& context, const CudaRank::Step& look);
  void observe(Observer observer) { observer_ = std::move(observer); }

  // Times of `repeats` runs, the program's own: on a GPU by events around replays of one graph,
  // and with `cold` after the second-level cache was overwritten. Inputs stay as they are.
  [[nodiscard]] std::vector<double> time_us(int program, const StepContext& context,
                                            const CudaRank::Repeats& how);

  [[nodiscard]] const program::Program& program(int index) const { return programs_[index]; }
  [[nodiscard]] std::span<const program::Program> programs() const { return programs_; }
  [[nodiscard]] const Memory& memory() const { return memory_; }

  template <class T>
  [[nodiscard]] T* input(const char* name) const {
    return reinterpret_cast<T*>(memory_.find(program::BufferKind::Input, name));
  }
  // For kernels beside the programs, of the given type; wait() ends what was enqueued.
  [[nodiscard]] kernels::Queue queue(Dtype dtype) const;
  void wait() const;
  // Any buffer of a program; an arena buffer holds its value until another one takes its place.
  [[nodiscard]] std::byte* buffer(int program, std::string_view name) const;
  [[nodiscard]] std::byte* address(int program, BufferId buffer) const {
    return addresses_[program][buffer.value];
  }
  [[nodiscard]] std::byte* region(program::BufferKind kind, int region) const;

 private:
  void run_once(int program, const StepContext& context);
  [[nodiscard]] std::optional<Overflow> take_overflow();
  void put_sampling(const program::Program& program, const StepContext& context);
  void walk(int program, const StepContext& context, const kernels::Queue& queue,
            const CudaRank::Step& after);

  Plan plan_;
  Rank rank_;
  std::vector<program::Program> programs_;
  Memory memory_;
  std::vector<std::vector<std::byte*>> addresses_;
  std::unique_ptr<CudaRank> cuda_;
  std::unique_ptr<Services> services_;  // its groups use the stream of the GPU
  Observer observer_;
};

}  // namespace imhotep::executor
