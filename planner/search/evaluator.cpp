#include "planner/search/evaluator.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <limits>
#include <map>
#include <numeric>

#include "core/program/build.h"

namespace imhotep::planner {
namespace {

int index_of(Recompute recompute) { return recompute == Recompute::Full ? 1 : 0; }

double step_us(const BlockPrice& block, int recompute) {
  return block.step_us + (recompute == 1 ? block.recompute_us : 0);
}

}  // namespace

// Moments are fp32 under bf16 weights, which have an fp32 master copy beside them.
std::int64_t optimizer_bytes(Dtype dtype) {
  return bytes_of(dtype) == 2 ? 12 : 2 * bytes_of(dtype);
}

Evaluator::Evaluator(const Space& space, const simulator::Simulator& simulator, int threads)
    : space_(space),
      simulator_(simulator),
      regions_(space, simulator),
      prices_(space.frames().size()),
      threads_(threads) {
  const ModelSpec& model = space.request().model;
  trains_ = space.request().workload.kind == WorkloadKind::Training;
  dense_layers_ = model.layers - model.moe_layers();
  for (const LayerKind& kind : space.kinds()) {
    last_layers_.push_back(layers_before(kind.layers.back()));
  }
  for (int layer = 0; layer < model.layers; ++layer) {
    if (model.experts_at(layer) == 0) last_dense_ = layers_before(layer);
  }
}

Evaluator::LastLayer Evaluator::layers_before(int position) const {
  LastLayer last{.dense_before = position};
  for (const LayerKind& other : space_.kinds()) {
    const auto before = std::count_if(other.layers.begin(), other.layers.end(),
                                      [&](int layer) { return layer < position; });
    last.before.push_back(static_cast<int>(before));
    last.dense_before -= static_cast<int>(before);
  }
  return last;
}

// A frame's price does not depend on who computes it; each thread has a simulator of its own, for
// they remember.
void Evaluator::price_from(std::size_t frame) {
  constexpr std::size_t kAhead = 4;
  const std::size_t end = std::min(
      prices_.size(), frame + (threads_ > 1 ? kAhead * static_cast<std::size_t>(threads_) : 1));
  std::atomic<std::size_t> next = frame;
  const auto work = [&](const simulator::Simulator& own) {
    for (std::size_t f = next++; f < end; f = next++) {
      if (!prices_[f]) prices_[f] = price_frame(space_, space_.frames()[f], own);
    }
  };
  std::vector<std::future<void>> others;
  const std::size_t wanted = std::min(static_cast<std::size_t>(threads_), end - frame);
  for (std::size_t t = 1; t < wanted; ++t) {
    if (copies_.size() < t) copies_.push_back(simulator_);
    others.push_back(std::async(std::launch::async, [&work, &own = copies_[t - 1]] { work(own); }));
  }
  work(simulator_);
  for (std::future<void>& other : others) other.get();
}

void Evaluator::enter(std::size_t frame) {
  frame_ = &space_.frames()[frame];
  if (!prices_[frame]) price_from(frame);
  price_ = &*prices_[frame];
  own_regions_.clear();
  by_time_.clear();
  lightest_.clear();
  fewest_us_.assign(2, {});
  fewest_prompt_us_.clear();
  for (std::size_t k = 0; k < price_->kinds.size(); ++k) {
    own_regions_.emplace_back();
    constexpr double kNone = std::numeric_limits<double>::infinity();
    double fewest[2] = {kNone, kNone}, prompt = kNone;
    for (std::size_t c = 0; c < price_->kinds[k].size(); ++c) {
      const BlockPrice& block = price_->kinds[k][c];
      for (const int r : {0, 1}) fewest[r] = std::min(fewest[r], step_us(block, r));
      prompt = std::min(prompt, block.prompt_us);
      own_regions_[k].push_back(
          &regions_.experts(*frame_, std::uint64_t{1} << k, frame_->choices[k][c]));
    }
    for (const int r : {0, 1}) fewest_us_[r].push_back(fewest[r]);
    fewest_prompt_us_.push_back(prompt);
    rank_choices(k);
  }
}

void Evaluator::rank_choices(std::size_t kind) {
  const std::vector<BlockPrice>& blocks = price_->kinds[kind];
  std::vector<std::uint32_t> order(blocks.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return blocks[a].step_us < blocks[b].step_us;
  });
  const auto& regions = own_regions_[kind];
  lightest_.push_back(*std::min_element(order.begin(), order.end(), [&](auto a, auto b) {
    return regions[a]->elements < regions[b]->elements;
  }));
  by_time_.push_back(std::move(order));
}

// All but the update; with nothing free, exact.
Times Evaluator::least_times(const Variant& variant, const std::vector<std::uint32_t>& choices,
                             std::size_t free) const {
  const int recompute = index_of(variant.recompute);
  Times times{.step_us = price_->base_us + step_us(price_->dense, recompute),
              .prompt_us = price_->base_prompt_us + price_->dense.prompt_us};
  for (std::size_t k = 0; k < price_->kinds.size(); ++k) {
    if (k < free) {
      times.step_us += fewest_us_[recompute][k];
      times.prompt_us += fewest_prompt_us_[k];
      continue;
    }
    const BlockPrice& block = price_->kinds[k][choices[k]];
    times.step_us += step_us(block, recompute);
    times.prompt_us += block.prompt_us;
  }
  const Times more = overheads();
  times.step_us = times.step_us * static_cast<double>(frame_->accumulation) + more.step_us;
  times.prompt_us = trains_ ? 0 : times.prompt_us + more.prompt_us;
  return times;
}

Times Evaluator::overheads() const {
  const double overhead_us = simulator_.overheads().step_us;
  if (trains_) return {.step_us = overhead_us};
  const Workload& work = space_.request().workload;
  const std::int64_t rows =
      std::min(usual_prefill_chunk(space_.request().cluster.device.kind), work.prompt);
  const std::int64_t chunks = (work.prompt + rows - 1) / rows;
  return {.step_us = overhead_us, .prompt_us = overhead_us * static_cast<double>(chunks)};
}

// Kinds with the same degrees share one region.
template <class Visit>
void Evaluator::visit_regions(const std::vector<std::uint32_t>& choices, Visit visit) {
  visit(regions_.dense(*frame_));
  const auto degrees = [&](std::size_t k) -> const LayerChoice& {
    return frame_->choices[k][choices[k]];
  };
  std::uint64_t done = 0;
  for (std::size_t k = 0; k < choices.size(); ++k) {
    if ((done >> k & 1) != 0) continue;
    std::uint64_t shared = 0;
    for (std::size_t other = k; other < choices.size(); ++other) {
      if (degrees(other).expert == degrees(k).expert &&
          degrees(other).slicing == degrees(k).slicing) {
        shared |= std::uint64_t{1} << other;
      }
    }
    done |= shared;
    const bool alone = shared == std::uint64_t{1} << k;
    visit(alone ? *own_regions_[k][choices[k]] : regions_.experts(*frame_, shared, degrees(k)));
  }
}

Times Evaluator::times(const Variant& variant, const std::vector<std::uint32_t>& choices) {
  Times times = least_times(variant, choices, 0);
  if (!trains_) return times;
  visit_regions(
      choices, [&](const RegionPrice& region) { times.step_us += region.update_us[variant.zero]; });
  return times;
}

std::int64_t Evaluator::kept_before(const LastLayer& last, int recompute,
                                    const std::vector<std::uint32_t>& choices) const {
  std::int64_t kept = last.dense_before * price_->dense.kept[recompute];
  for (std::size_t k = 0; k < choices.size(); ++k) {
    kept += last.before[k] * price_->kinds[k][choices[k]].kept[recompute];
  }
  return kept;
}

// The head meets what every block keeps; the backward pass of a block meets what those before it
// keep. The last block of a kind has most before it.
std::int64_t Evaluator::arena_bound(const Variant& variant,
                                    const std::vector<std::uint32_t>& choices) const {
  const int recompute = index_of(variant.recompute);
  std::int64_t most = price_->base_bytes;
  std::int64_t kept = dense_layers_ * price_->dense.kept[recompute];
  for (std::size_t k = 0; k < choices.size(); ++k) {
    const BlockPrice& block = price_->kinds[k][choices[k]];
    kept += static_cast<std::int64_t>(space_.kinds()[k].layers.size()) * block.kept[recompute];
    const std::int64_t before = kept_before(last_layers_[k], recompute, choices);
    most = std::max(most, before + block.peak[recompute]);
  }
  if (dense_layers_ > 0) {
    const std::int64_t before = kept_before(last_dense_, recompute, choices);
    most = std::max(most, before + price_->dense.peak[recompute]);
  }
  return trains_ ? std::max(most, kept + price_->base_bytes) : most;
}

std::int64_t Evaluator::least_weights(const std::vector<std::uint32_t>& choices, std::size_t free) {
  constexpr std::int64_t kPadding = 16;  // elements a rank, which a shared region may save
  std::int64_t elements = regions_.dense(*frame_).elements;
  for (std::size_t k = 0; k < choices.size(); ++k) {
    const RegionPrice& region = *own_regions_[k][k < free ? lightest_[k] : choices[k]];
    elements += std::max<std::int64_t>(0, region.elements - kPadding * region.group);
  }
  return elements * bytes_of(space_.request().dtype);
}

void Evaluator::add_region(const RegionPrice& region, int zero, MemoryBound& bound,
                           std::int64_t& shards) const {
  const std::int64_t size = bytes_of(space_.request().dtype);
  bound.weights += region.elements * size;
  if (!trains_) return;
  const std::int64_t shard = region.elements / region.group;
  const std::int64_t updated = zero == 1 ? shard : region.elements;
  bound.state += region.elements * size + updated * optimizer_bytes(space_.request().dtype);
  if (zero == 1 && region.group > 1) shards += shard * size;
}

MemoryBound Evaluator::memory(const Variant& variant, const std::vector<std::uint32_t>& choices) {
  MemoryBound bound;
  std::int64_t shards = 0;  // gradients of the update, reduced
  visit_regions(
      choices, [&](const RegionPrice& region) { add_region(region, variant.zero, bound, shards); });
  bound.rest = price_->fixed_bytes + std::max(shards, arena_bound(variant, choices));
  return bound;
}

template <class Visit>
void Evaluator::visit_regions(const LayerChoices& layers, Visit visit) {
  visit(regions_.dense(*frame_));
  std::map<std::pair<int, int>, std::pair<LayerChoice, std::vector<int>>> regions;
  for (std::size_t k = 0; k < space_.kinds().size(); ++k) {
    for (const int layer : space_.kinds()[k].layers) {
      const LayerChoice& own = frame_->choices[k][layers.choice[layer]];
      auto& [degrees, count] = regions[{own.expert, own.slicing}];
      degrees = own;
      count.resize(space_.kinds().size(), 0);
      ++count[k];
    }
  }
  for (const auto& [key, region] : regions) {
    visit(regions_.experts(*frame_, region.second, region.first));
  }
}

Times Evaluator::times(int zero, const LayerChoices& layers) {
  Times times{.step_us = price_->base_us, .prompt_us = price_->base_prompt_us};
  for (std::size_t layer = 0; layer < layers.choice.size(); ++layer) {
    const int kind = space_.kind_of(static_cast<int>(layer));
    const BlockPrice& block = kind < 0 ? price_->dense : price_->kinds[kind][layers.choice[layer]];
    const double alike =
        kind < 0 ? dense_layers_ : static_cast<double>(space_.kinds()[kind].layers.size());
    times.step_us += step_us(block, layers.recompute[layer] ? 1 : 0) / alike;
    times.prompt_us += block.prompt_us / alike;
  }
  const Times more = overheads();
  times.step_us = times.step_us * static_cast<double>(frame_->accumulation) + more.step_us;
  times.prompt_us = trains_ ? 0 : times.prompt_us + more.prompt_us;
  if (!trains_) return times;
  visit_regions(layers,
                [&](const RegionPrice& region) { times.step_us += region.update_us[zero]; });
  return times;
}

std::int64_t Evaluator::arena_bound(const LayerChoices& layers) const {
  std::int64_t most = price_->base_bytes, kept = 0;
  for (std::size_t layer = 0; layer < layers.choice.size(); ++layer) {
    const int kind = space_.kind_of(static_cast<int>(layer));
    const BlockPrice& block = kind < 0 ? price_->dense : price_->kinds[kind][layers.choice[layer]];
    const int recompute = layers.recompute[layer] ? 1 : 0;
    most = std::max(most, (trains_ ? kept : 0) + block.peak[recompute]);
    kept += block.kept[recompute];
  }
  return trains_ ? std::max(most, kept + price_->base_bytes) : most;
}

MemoryBound Evaluator::memory(int zero, const LayerChoices& layers) {
  MemoryBound bound;
  std::int64_t shards = 0;
  visit_regions(layers,
                [&](const RegionPrice& region) { add_region(region, zero, bound, shards); });
  bound.rest = price_->fixed_bytes + std::max(shards, arena_bound(layers));
  return bound;
}

}  // namespace imhotep::planner
