#include "executor/train/initialize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/initialize.h"

namespace imhotep::executor {
namespace {

std::uint64_t name_key(const std::string& name) {
  std::uint64_t key = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return key;
}

struct Start {
  double constant = 0, deviation = 0;
};

Start start_of(const ModelSpec& model, TensorRole role) {
  using R = TensorRole;
  switch (role) {
    case R::Ln1Gain:
    case R::Ln2Gain:
    case R::FinalGain:
      return {.constant = 1};
    case R::ProjectionWeight:
    case R::DownWeight:
    case R::ExpertDownWeight:
      return {.deviation = model.init_std / std::sqrt(2.0 * model.layers)};
    case R::TokenEmbedding:
    case R::PositionEmbedding:
    case R::QkvWeight:
    case R::UpWeight:
    case R::GateWeight:
    case R::CoefficientWeight:
    case R::ExpertUpWeight:
      return {.deviation = model.init_std};
    default:
      return {};
  }
}

// The elements that a run of a tensor and a part of its region have in common.
void fill_run(const kernels::Queue& queue, kernels::Initialize values, const TensorRun& run,
              std::int64_t run_begin, const RegionPart& part) {
  const std::int64_t begin = std::max(run_begin, part.begin);
  const std::int64_t end = std::min(run_begin + run.count, part.end);
  if (begin >= end) return;
  values.first = run.global_offset + begin - run_begin;
  values.count = end - begin;
  auto* out = static_cast<std::byte*>(part.out) + (begin - part.begin) * bytes_of(queue.dtype);
  kernels::initialize(queue, values, {.out = out});
}

}  // namespace

void initialize_region(const Plan& plan, const Region& region, const RegionPart& part,
                       const kernels::Queue& queue, const InitializeOptions& options) {
  for (const LocalTensor& tensor : region.tensors) {
    const Start start = start_of(plan.model, tensor.role);
    const int stack = std::max(tensor.expert_count, 1);
    for (int i = 0; i < stack; ++i) {
      const bool same = options.experts == ExpertStart::Identical;
      const int expert = same ? 0 : tensor.expert_begin + i;
      const kernels::Initialize values{
          .seed = options.seed,
          .key = name_key(tensor_name(tensor.role, tensor.layer, expert)),
          .constant = start.constant,
          .deviation = start.deviation};
      const std::int64_t first = tensor.offset + i * tensor.elements_per_tensor();
      for (const TensorRun& run : tensor_runs(tensor)) {
        fill_run(queue, values, run, first + run.local_offset, part);
      }
    }
  }
}

void initialize_weights(const Plan& plan, Runner& runner, const InitializeOptions& options) {
  const std::vector<Region>& regions = runner.program(0).weights.regions;
  for (std::size_t r = 0; r < regions.size(); ++r) {
    std::byte* out = runner.region(program::BufferKind::Weight, static_cast<int>(r));
    initialize_region(plan, regions[r], {.out = out, .end = regions[r].elements},
                      runner.queue(regions[r].dtype), options);
  }
  runner.wait();
}

}  // namespace imhotep::executor
