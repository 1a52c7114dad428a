// Shards tile every tensor exactly: an element of a file tensor lies on as many ranks as hold
// copies of it by the plan's degrees, and nowhere else.

#include "core/layout/weights.h"

#include <doctest/doctest.h>

#include <algorithm>

#include <map>
#include <numeric>

#include "core/layout/groups.h"
#include "core/spec/parameters.h"
#include "tests/core/random_plans.h"

namespace imhotep {
namespace {

std::vector<WeightLayout> layouts_of(const Plan& plan) {
  std::vector<WeightLayout> layouts;
  for (int r = 0; r < plan.world; ++r) layouts.push_back(weight_layout(plan, Rank(r)));
  return layouts;
}

std::int64_t size_of(const LocalTensor& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1},
                         std::multiplies<>());
}

struct Held {
  std::vector<int> change;  // in the number of holders at every element: runs begin and end
  int expected = 0;

  [[nodiscard]] bool everywhere_expected() const {
    int holders = 0;
    for (std::size_t i = 0; i + 1 < change.size(); ++i) {
      holders += change[i];
      if (holders != expected) return false;
    }
    return holders + change.back() == 0;
  }
};

// Adds one rank's part of a tensor to the count, checking that runs fill its local memory.
void count(const LocalTensor& tensor, int expected, std::map<std::string, Held>& held) {
  const std::vector<TensorRun> runs = tensor_runs(tensor);
  std::int64_t local = 0;
  for (const TensorRun& run : runs) {
    REQUIRE(run.local_offset == local);
    local += run.count;
  }
  REQUIRE(local == tensor.elements_per_tensor());
  for (int e = 0; e < std::max(1, tensor.expert_count); ++e) {
    Held& file = held[tensor_name(tensor.role, tensor.layer, tensor.expert_begin + e)];
    file.change.resize(static_cast<std::size_t>(size_of(tensor)) + 1);
    file.expected = expected;
    for (const TensorRun& run : runs) {
      ++file.change.at(run.global_offset);
      --file.change.at(run.global_offset + run.count);
    }
  }
}

// Ranks that hold an element which the rank's region does not cut.
int whole_copies(const Plan& plan, const LocalTensor& tensor) {
  const bool expert = tensor.expert_count > 0;
  return expert ? plan.moe(tensor.layer)->slicing : plan.tensor;
}

void check_tiling(const Plan& plan) {
  std::map<std::string, Held> held;
  for (const WeightLayout& layout : layouts_of(plan)) {
    for (const Region& region : layout.regions) {
      for (const LocalTensor& tensor : region.tensors) {
        const int group = static_cast<int>(region.group.size());
        const int copies = tensor.shard_dim >= 0 ? group : group * whole_copies(plan, tensor);
        count(tensor, copies, held);
      }
    }
  }
  std::int64_t elements = 0;
  for (const auto& [name, file] : held) {
    INFO(name);
    elements += static_cast<std::int64_t>(file.change.size()) - 1;
    REQUIRE(file.everywhere_expected());
  }
  CHECK(elements == parameters(plan.model));
}

bool same_part(const LocalTensor& a, const LocalTensor& b) {
  return a.role == b.role && a.layer == b.layer && a.shape == b.shape &&
         a.shard_dim == b.shard_dim && a.begin == b.begin && a.end == b.end &&
         a.expert_begin == b.expert_begin && a.expert_count == b.expert_count &&
         a.offset == b.offset && a.elements == b.elements;
}

void check_group(const std::vector<WeightLayout>& layouts, Rank rank, std::size_t index) {
  const Region& own = layouts[rank.value].regions[index];
  REQUIRE(own.group.at(own.own_index) == rank);
  for (const Rank peer : own.group) {
    const Region& other = layouts[peer.value].regions[index];
    REQUIRE(other.group == own.group);
    REQUIRE(other.elements == own.elements);
    REQUIRE(other.decayed == own.decayed);
    REQUIRE(other.tensors.size() == own.tensors.size());
    for (std::size_t t = 0; t < own.tensors.size(); ++t) {
      REQUIRE(same_part(own.tensors[t], other.tensors[t]));
    }
  }
}

bool takes_decay(const LocalTensor& tensor) {
  return tensor.shape.size() > 1 && tensor.role != TensorRole::QkvBias;
}

void check_region(const Region& region) {
  std::int64_t at = 0, ranged = 0;
  for (const LocalTensor& tensor : region.tensors) {
    REQUIRE(tensor.offset == (at + 15) / 16 * 16);
    at = tensor.offset + tensor.elements;
    REQUIRE((at <= region.decayed) == takes_decay(tensor));
  }
  CHECK(at == region.used);
  for (const NormRange& range : region.norm_ranges) {
    REQUIRE(range.begin - ranged < 16);
    ranged = range.end;
  }
  CHECK(ranged == region.used);
  CHECK(region.elements >= region.used);
  CHECK(region.shard_elements() * static_cast<std::int64_t>(region.group.size()) ==
        region.elements);
  CHECK(region.shard_elements() % 16 == 0);
}

TEST_CASE("shards tile every tensor exactly, and together they are the whole model") {
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    INFO("seed ", seed);
    check_tiling(test::random_plan(seed));
  }
}

TEST_CASE("the ranks of a region's group hold the same elements at the same places") {
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    INFO("seed ", seed);
    const Plan plan = test::random_plan(seed);
    const std::vector<WeightLayout> layouts = layouts_of(plan);
    for (int r = 0; r < plan.world; ++r) {
      REQUIRE(layouts[r].regions.size() == layouts[0].regions.size());
      for (std::size_t i = 0; i < layouts[r].regions.size(); ++i) check_group(layouts, Rank(r), i);
    }
  }
}

TEST_CASE(
    "a region is filled in whole cache lines, decayed tensors first, and cuts into equal shards") {
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    INFO("seed ", seed);
    const Plan plan = test::random_plan(seed);
    const WeightLayout layout = weight_layout(plan, Rank(plan.world - 1));
    for (const Region& region : layout.regions) check_region(region);
  }
}

TEST_CASE("the norm ranges of all ranks count every parameter of the model once") {
  for (std::uint64_t seed = 0; seed < test::kSeeds; ++seed) {
    INFO("seed ", seed);
    const Plan plan = test::random_plan(seed);
    double counted = 0;
    for (const WeightLayout& layout : layouts_of(plan)) {
      for (const Region& region : layout.regions) {
        for (const LocalTensor& tensor : region.tensors) {
          const auto range = std::find_if(
              region.norm_ranges.begin(), region.norm_ranges.end(), [&](const NormRange& r) {
                return r.begin <= tensor.offset && tensor.offset + tensor.elements <= r.end;
              });
          REQUIRE(range != region.norm_ranges.end());
          counted += range->scale * static_cast<double>(tensor.elements) /
                     static_cast<double>(region.group.size());
        }
      }
    }
    CHECK(counted == doctest::Approx(static_cast<double>(parameters(plan.model))).epsilon(1e-12));
  }
}

TEST_CASE("find returns the tensor of a role and layer, or nothing") {
  const Plan plan = test::random_plan(1);
  const WeightLayout layout = weight_layout(plan, Rank(0));
  REQUIRE(layout.find(TensorRole::TokenEmbedding) != nullptr);
  CHECK(layout.find(TensorRole::TokenEmbedding)->shape[1] == plan.model.hidden);
  CHECK(layout.find(TensorRole::TokenEmbedding, 0) == nullptr);
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    CHECK((layout.find(TensorRole::GateWeight, layer) != nullptr) ==
          (plan.model.experts_at(layer) > 0));
  }
}

TEST_CASE("names of tensors hold no degree") {
  CHECK(tensor_name(TensorRole::ExpertUpWeight, 3, 12) == "blocks.3.experts.12.up.weight");
  CHECK(tensor_name(TensorRole::QkvWeight, 0) == "blocks.0.attention.qkv.weight");
  CHECK(tensor_name(TensorRole::TokenEmbedding, -1) == "embedding.token.weight");
}

TEST_CASE("a cut in the middle dimension becomes one run a row of the outer one") {
  const LocalTensor tensor{
      .shape = {3, 8, 2}, .shard_dim = 1, .begin = 4, .end = 6, .elements = 3 * 2 * 2};
  const std::vector<TensorRun> runs = tensor_runs(tensor);
  REQUIRE(runs.size() == 3);
  CHECK(runs[2].global_offset == 2 * 16 + 8);
  CHECK(runs[2].local_offset == 8);
  CHECK(runs[2].count == 4);
}

}  // namespace
}  // namespace imhotep
