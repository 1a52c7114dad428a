#include "executor/train/initialize.h"

#include <cmath>

#include "core/base/fail.h"
#include "core/base/random.h"

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

template <class T>
void fill_tensor(const LocalTensor& tensor, const Start& start, std::uint64_t seed,
                 std::uint64_t key, T* out) {
  for (const TensorRun& run : tensor_runs(tensor)) {
    T* part = out + run.local_offset;
    for (std::int64_t i = 0; i < run.count; ++i) {
      const auto element = static_cast<std::uint64_t>(run.global_offset + i);
      const double drawn = start.deviation > 0 ? normal(seed, key, element) : 0;
      // Through fp32 at any dtype, so that fp64 checks start from the same model.
      part[i] = static_cast<T>(static_cast<float>(start.constant + start.deviation * drawn));
    }
  }
}

template <class T>
void fill_region(const Plan& plan, const Region& region, T* weights,
                 const InitializeOptions& options) {
  for (const LocalTensor& tensor : region.tensors) {
    const Start start = start_of(plan.model, tensor.role);
    const int stack = std::max(tensor.expert_count, 1);
    for (int i = 0; i < stack; ++i) {
      const bool same = options.experts == ExpertStart::Identical;
      const int expert = same ? 0 : tensor.expert_begin + i;
      const std::uint64_t key = name_key(tensor_name(tensor.role, tensor.layer, expert));
      fill_tensor(tensor, start, options.seed, key,
                  weights + tensor.offset + i * tensor.elements_per_tensor());
    }
  }
}

}  // namespace

void initialize_region(const Plan& plan, const Region& region, void* weights,
                       const InitializeOptions& options) {
  if (plan.dtype == Dtype::F64) {
    fill_region(plan, region, static_cast<double*>(weights), options);
  } else if (plan.dtype == Dtype::F32) {
    fill_region(plan, region, static_cast<float*>(weights), options);
  } else {
    fail_missing("CPU ranks run fp32 and fp64; the plan asks for {}", name_of(plan.dtype));
  }
}

}  // namespace imhotep::executor
