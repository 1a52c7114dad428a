#include "planner/search/block_prices.h"

#include <algorithm>

#include "core/base/fail.h"
#include "planner/search/program_parts.h"
#include "planner/search/sample_plan.h"

namespace imhotep::planner {
namespace {

using program::Pass;
using program::Program;

std::int64_t balance_elements(const ModelSpec& model) {
  std::int64_t elements = 0;
  for (int layer = 0; layer < model.layers; ++layer) elements += 2L * model.experts_at(layer);
  return elements;
}

class FramePricer {
 public:
  FramePricer(const Space& space, const Frame& frame, const simulator::Simulator& simulator)
      : space_(space), simulator_(simulator) {
    const std::vector<Variant>& variants = space.variants();
    recomputes_ = std::any_of(variants.begin(), variants.end(), [](const Variant& variant) {
      return variant.recompute == Recompute::Full;
    });
    sample_ = sample_of(space, frame, recomputes_ ? Recompute::Full : Recompute::None);
    for (const auto& choices : frame.choices) price_.kinds.emplace_back(choices.size());
  }

  FramePrice run() {
    if (space_.request().workload.kind == WorkloadKind::Training) {
      training();
    } else {
      generation();
    }
    return std::move(price_);
  }

 private:
  BlockPrice& block_of(int layer) {
    const SampleBlock& block = sample_.blocks[layer];
    return block.kind < 0 ? price_.dense : price_.kinds[block.kind][block.choice];
  }

  void training() {
    const double micro_steps = static_cast<double>(sample_.plan.accumulation);
    Program step =
        program::build_train_step(sample_.plan, Rank(0), {.first = true, .place = false});
    if (const int balance = find_operation(step, "balance_sum"); balance >= 0) {
      step.operations[balance].shape = AllReduce{balance_elements(space_.request().model)};
    }
    add_micro_step(step, 1 / micro_steps);
    measure_training(step);
    fixed_bytes(step);
    if (micro_steps == 1) return;
    add_to_gradients(step);
    add_micro_step(step, 1 - 1 / micro_steps);
  }

  // Adds a share of one kind of micro-step to the mean of all. What zeroes gradients belongs to the
  // regions.
  void add_micro_step(const Program& step, double share) {
    const std::vector<double> times = finish_increments(simulator_.timeline(step, sample_.plan));
    for (std::size_t i = 0; i < times.size(); ++i) {
      const program::Operation& operation = step.operations[i];
      if (std::holds_alternative<Fill>(operation.shape) && operation.layer < 0) continue;
      if (operation.layer < 0) {
        price_.base_us += share * times[i];
        continue;
      }
      const double all = share * times[i] * sample_.blocks[operation.layer].times;
      BlockPrice& block = block_of(operation.layer);
      (operation.pass == Pass::Recompute ? block.recompute_us : block.step_us) += all;
    }
  }

  // Kept: what lives at the head. With recomputation in the sample, what a plan without it keeps
  // is what the sample computes again and its backward pass reads.
  void measure_training(const Program& step) {
    const int head = find_operation(step, "final_ln");
    const std::vector<std::vector<int>> operations = operations_by_layer(step);
    const auto buffers = arena_buffers(step, static_cast<int>(sample_.blocks.size()));
    for (const std::int64_t live : live_bytes(step, buffers[0], operations[0])) {
      price_.base_bytes = std::max(price_.base_bytes, live);
    }
    for (std::size_t layer = 0; layer < sample_.blocks.size(); ++layer) {
      BlockPrice& block = block_of(static_cast<int>(layer));
      std::vector<int> own;
      std::int64_t kept = 0, again = 0;
      for (const int b : buffers[layer + 1]) {
        const program::Buffer& buffer = step.buffers[b];
        // Sized by all blocks of the sample, which the model has not.
        if (std::string_view(buffer.name) == "recomputed_stats") continue;
        own.push_back(b);
        if (buffer.first_use < head && buffer.last_use > head) kept += aligned_bytes(buffer);
        if (step.operations[buffer.first_use].pass == Pass::Recompute &&
            step.operations[buffer.last_use].pass == Pass::Backward) {
          again += aligned_bytes(buffer);
        }
      }
      const std::vector<std::int64_t> live = live_bytes(step, own, operations[layer + 1]);
      const std::vector<std::int64_t> base = live_bytes(step, buffers[0], operations[layer + 1]);
      std::int64_t all_passes = 0, backward = 0;
      for (std::size_t i = 0; i < live.size(); ++i) {
        const std::int64_t bytes = live[i] + base[i];
        all_passes = std::max(all_passes, bytes);
        const Pass pass = step.operations[operations[layer + 1][i]].pass;
        if (pass == Pass::Backward) backward = std::max(backward, bytes);
      }
      block.kept[0] = kept + again;
      block.kept[1] = kept;
      block.peak[0] = recomputes_ ? backward : all_passes;
      block.peak[1] = all_passes;
    }
  }

  std::vector<std::vector<int>> operations_by_layer(const Program& program) const {
    std::vector<std::vector<int>> operations(sample_.blocks.size() + 1);
    for (std::size_t i = 0; i < program.operations.size(); ++i) {
      operations[program.operations[i].layer + 1].push_back(static_cast<int>(i));
    }
    return operations;
  }

  void generation() {
    const Program decode =
        program::build_generate(sample_.plan, Rank(0), program::decode_shape(sample_.plan));
    program::GenerateShape chunk = program::prefill_shape(sample_.plan);
    const Program chunk_program = program::build_generate(sample_.plan, Rank(0), chunk);
    // As the simulator prices a prompt: every chunk as the middle one.
    const std::int64_t prompt = sample_.plan.workload.prompt;
    const std::int64_t chunks = (prompt + chunk.rows - 1) / chunk.rows;
    chunk.context = (static_cast<double>(prompt) + 1) / 2;
    const Program middle = program::build_generate(sample_.plan, Rank(0), chunk);
    add_generation(decode, 1, price_.base_us, &BlockPrice::step_us);
    add_generation(middle, static_cast<double>(chunks), price_.base_prompt_us,
                   &BlockPrice::prompt_us);
    for (const Program* program : {&decode, &chunk_program}) {
      measure_generation(*program);
      fixed_bytes(*program);
    }
  }

  void add_generation(const Program& program, double repeats, double& base,
                      double BlockPrice::*part) {
    const std::vector<double> times = finish_increments(simulator_.timeline(program, sample_.plan));
    for (std::size_t i = 0; i < times.size(); ++i) {
      const int layer = program.operations[i].layer;
      if (layer < 0) {
        base += repeats * times[i];
      } else {
        block_of(layer).*part += repeats * times[i] * sample_.blocks[layer].times;
      }
    }
  }

  void measure_generation(const Program& program) {
    const auto operations = operations_by_layer(program);
    const auto buffers = arena_buffers(program, static_cast<int>(sample_.blocks.size()));
    const auto most = [&](std::size_t slot) {
      const auto live = live_bytes(program, buffers[slot], operations[slot]);
      return live.empty() ? 0 : *std::max_element(live.begin(), live.end());
    };
    price_.base_bytes = std::max(price_.base_bytes, most(0));
    for (std::size_t layer = 0; layer < sample_.blocks.size(); ++layer) {
      BlockPrice& block = block_of(static_cast<int>(layer));
      block.peak[0] = std::max(block.peak[0], most(layer + 1));
      block.peak[1] = block.peak[0];
    }
  }

  // Inputs as they are, but for the balance statistics, which are those of the model; the cache of
  // one layer for every layer.
  void fixed_bytes(const Program& program) {
    const program::MemoryUse use = memory_use(program);
    const program::Buffer& stats = program[program.find("balance_stats")];
    const std::int64_t elements =
        std::max<std::int64_t>(balance_elements(space_.request().model), 1);
    const std::int64_t inputs = use.by_kind[static_cast<int>(program::BufferKind::Input)] -
                                stats.bytes() + elements * bytes_of(stats.dtype);
    const std::int64_t cache = use.by_kind[static_cast<int>(program::BufferKind::Kv)] /
                               static_cast<std::int64_t>(sample_.blocks.size()) *
                               space_.request().model.layers;
    inputs_ = std::max(inputs_, inputs);
    cache_ = std::max(cache_, cache);
    price_.fixed_bytes = inputs_ + cache_;
  }

  const Space& space_;
  const simulator::Simulator& simulator_;
  Sample sample_;
  bool recomputes_ = false;
  FramePrice price_;
  std::int64_t inputs_ = 0, cache_ = 0;
};

}  // namespace

FramePrice price_frame(const Space& space, const Frame& frame,
                       const simulator::Simulator& simulator) {
  return FramePricer(space, frame, simulator).run();
}

}  // namespace imhotep::planner
