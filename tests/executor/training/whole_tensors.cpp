#include "tests/executor/training/whole_tensors.h"

#include <algorithm>
#include <cmath>

#include "core/base/fail.h"

namespace imhotep::test {
namespace {

using executor::Trainer;
using program::BufferKind;

struct Part {  // elements [begin, end) of a region
  const std::byte* data = nullptr;
  std::int64_t begin = 0, end = 0;
};

Part part_of(Trainer& trainer, const Region& region, int index, Held held) {
  const executor::Memory& memory = trainer.runner().memory();
  if (held == Held::Weights) {
    return {memory.find(BufferKind::Weight, "weights", index), 0, region.elements};
  }
  const char* name = held == Held::FirstMoment ? "m" : "v";
  const std::byte* data = memory.find(BufferKind::Optimizer, name, index);
  if (trainer.plan().zero == 0) return {data, 0, region.elements};
  const std::int64_t shard = region.shard_elements();
  return {data, shard * region.own_index, shard * (region.own_index + 1)};
}

std::int64_t elements_of(const LocalTensor& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t size : tensor.shape) count *= size;
  return count;
}

double value_at(const Part& part, Dtype dtype, std::int64_t i) {
  return dtype == Dtype::F64
             ? reinterpret_cast<const double*>(part.data)[i - part.begin]
             : static_cast<double>(reinterpret_cast<const float*>(part.data)[i - part.begin]);
}

// Calls visit(name, element of the whole tensor, element of the region) for what the rank holds.
template <class Visit>
void for_each_element(const Region& region, Visit&& visit) {
  for (const LocalTensor& tensor : region.tensors) {
    for (int e = 0; e < std::max(tensor.expert_count, 1); ++e) {
      const std::string name = tensor_name(tensor.role, tensor.layer, tensor.expert_begin + e);
      const std::int64_t base = tensor.offset + e * tensor.elements_per_tensor();
      for (const TensorRun& run : tensor_runs(tensor)) {
        for (std::int64_t i = 0; i < run.count; ++i) {
          visit(name, run.global_offset + i, base + run.local_offset + i);
        }
      }
    }
  }
}

// Every tensor of the model, also those of which this rank holds nothing, filled with zeros.
std::map<std::string, std::vector<double>> blank(const Plan& plan, const WeightLayout& layout) {
  std::map<std::string, std::vector<double>> values;
  for (const Region& region : layout.regions) {
    for (const LocalTensor& tensor : region.tensors) {
      const int experts = tensor.expert_count > 0 ? plan.model.experts_at(tensor.layer) : 1;
      for (int e = 0; e < experts; ++e) {
        values[tensor_name(tensor.role, tensor.layer, e)].resize(elements_of(tensor));
      }
    }
  }
  return values;
}

}  // namespace

WholeTensors whole_tensors(Trainer& trainer, Held held, executor::Communicator* all) {
  const Plan& plan = trainer.plan();
  const WeightLayout& layout = trainer.weights();
  WholeTensors whole{.values = blank(plan, layout)};
  auto holders = whole.values;
  const auto for_all = [&](auto&& visit) {
    for (std::size_t r = 0; r < layout.regions.size(); ++r) {
      const Part part = part_of(trainer, layout.regions[r], static_cast<int>(r), held);
      for_each_element(layout.regions[r],
                       [&](const std::string& name, std::int64_t global, std::int64_t local) {
                         if (local < part.begin || local >= part.end) return;
                         visit(name, global, value_at(part, plan.dtype, local));
                       });
    }
  };
  for_all([&](const std::string& name, std::int64_t i, double value) {
    whole.values[name][i] += value;
    holders[name][i] += 1;
  });
  for (auto& [name, values] : whole.values) {
    std::vector<double>& count = holders[name];
    const auto size = static_cast<std::int64_t>(values.size());
    if (all != nullptr) {
      all->all_reduce(values.data(), size, Dtype::F64);
      all->all_reduce(count.data(), size, Dtype::F64);
    }
    for (std::int64_t i = 0; i < size; ++i) {
      if (count[i] == 0) fail("element {} of {} is held by no rank", i, name);
      values[i] /= count[i];
    }
  }
  for_all([&](const std::string& name, std::int64_t i, double value) {
    whole.disagreement = std::max(whole.disagreement, std::abs(value - whole.values[name][i]));
  });
  return whole;
}

double worst_difference(const WholeTensors& a, const WholeTensors& b) {
  if (a.values.size() != b.values.size()) return INFINITY;
  double worst = 0;
  for (const auto& [name, values] : a.values) {
    const auto other = b.values.find(name);
    if (other == b.values.end() || other->second.size() != values.size()) return INFINITY;
    double largest = 1e-30, difference = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      largest = std::max(largest, std::abs(other->second[i]));
      difference = std::max(difference, std::abs(values[i] - other->second[i]));
      if (!std::isfinite(values[i])) return INFINITY;
    }
    worst = std::max(worst, difference / largest);
  }
  return worst;
}

}  // namespace imhotep::test
