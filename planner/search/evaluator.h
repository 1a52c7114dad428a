#pragma once
// Time and least memory of a candidate, from memoised parts. Exact in time where communication
// never overlaps computation, very near where it does; a lower bound in memory.

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "planner/objective/objective.h"
#include "planner/search/block_prices.h"
#include "planner/search/region_prices.h"

namespace imhotep::planner {

struct MemoryBound {
  std::int64_t weights = 0;
  std::int64_t state = 0;  // gradients and optimizer
  std::int64_t rest = 0;   // arena, inputs, KV cache
  [[nodiscard]] std::int64_t total() const { return weights + state + rest; }
};

// Bytes of optimizer state for one weight.
[[nodiscard]] std::int64_t optimizer_bytes(Dtype dtype);

// One frame at a time: enter it, then ask for its candidates.
class Evaluator {
 public:
  // Frames are priced when they are entered, `threads` of them at once.
  Evaluator(const Space& space, const simulator::Simulator& simulator, int threads = 1);

  void enter(std::size_t frame);
  // `choices`: index of the choice of every kind.
  [[nodiscard]] Times times(const Variant& variant, const std::vector<std::uint32_t>& choices);
  [[nodiscard]] MemoryBound memory(const Variant& variant,
                                   const std::vector<std::uint32_t>& choices);
  // The same for layers that choose by themselves.
  [[nodiscard]] Times times(int zero, const LayerChoices& layers);
  [[nodiscard]] MemoryBound memory(int zero, const LayerChoices& layers);
  // Simulators of the other threads, which remember too.
  [[nodiscard]] const std::deque<simulator::Simulator>& copies() const { return copies_; }
  [[nodiscard]] const FramePrice& price() const { return *price_; }
  [[nodiscard]] RegionPrices& regions() { return regions_; }
  // Overhead of steps and prompt chunks, which no block has.
  [[nodiscard]] Times overheads() const;
  // No candidate of the frame is faster that makes these choices for the kinds from `free` on.
  [[nodiscard]] Times least_times(const Variant& variant, const std::vector<std::uint32_t>& choices,
                                  std::size_t free) const;
  // Every such candidate holds at least these bytes of weights.
  [[nodiscard]] std::int64_t least_weights(const std::vector<std::uint32_t>& choices,
                                           std::size_t free);
  // The choice of a kind that holds fewest weights.
  [[nodiscard]] std::uint32_t lightest(std::size_t kind) const { return lightest_[kind]; }
  // Choices of a kind, the fastest first.
  [[nodiscard]] const std::vector<std::uint32_t>& by_time(std::size_t kind) const {
    return by_time_[kind];
  }

 private:
  void price_from(std::size_t frame);
  void rank_choices(std::size_t kind);
  template <class Visit>
  void visit_regions(const LayerChoices& layers, Visit visit);
  void add_region(const RegionPrice& region, int zero, MemoryBound& bound,
                  std::int64_t& shards) const;
  [[nodiscard]] std::int64_t arena_bound(const LayerChoices& layers) const;
  template <class Visit>
  void visit_regions(const std::vector<std::uint32_t>& choices, Visit visit);
  [[nodiscard]] std::int64_t arena_bound(const Variant& variant,
                                         const std::vector<std::uint32_t>& choices) const;

  const Space& space_;
  const simulator::Simulator& simulator_;
  RegionPrices regions_;
  const Frame* frame_ = nullptr;
  const FramePrice* price_ = nullptr;
  std::vector<std::optional<FramePrice>> prices_;  // by frame
  std::deque<simulator::Simulator> copies_;        // of the other threads
  int threads_;
  std::vector<std::vector<const RegionPrice*>> own_regions_;  // by kind and choice, unshared
  std::vector<std::vector<std::uint32_t>> by_time_;           // by kind
  std::vector<std::uint32_t> lightest_;                       // by kind
  std::vector<std::vector<double>> fewest_us_;  // by recomputation {none, full} and kind
  std::vector<double> fewest_prompt_us_;        // by kind
  struct LastLayer {                            // of a kind: how many layers come before it
    int dense_before = 0;
    std::vector<int> before;  // by kind
  };
  [[nodiscard]] LastLayer layers_before(int position) const;
  [[nodiscard]] std::int64_t kept_before(const LastLayer& last, int recompute,
                                         const std::vector<std::uint32_t>& choices) const;
  std::vector<LastLayer> last_layers_;  // by kind
  LastLayer last_dense_;
  int dense_layers_ = 0;
  bool trains_ = false;
};

}  // namespace imhotep::planner
