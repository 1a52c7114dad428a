#pragma once
// The search: every legal plan gets a time and the memory it needs at least, as sums of memoised
// parts; the best ones are then built and simulated whole. Spaces of more than two million plans
// are searched by branch and bound instead: what cannot reach the best ten thousand is counted
// as pruned and never looked at.

#include <functional>
#include <optional>
#include <vector>

#include "planner/objective/objective.h"
#include "planner/space/space.h"
#include "simulator/step.h"

namespace imhotep::planner {

struct SearchOptions {
  Objective objective = Objective::Throughput;
  int top = 5;           // plans to return
  std::size_t kept = 0;  // candidates to remember; 0: all of a small space, else ten thousand
  // Called now and then with candidates done and in all; false stops the search with what it has.
  std::function<bool(double done, double total)> progress;
};

// Why plans do not fit: the first of these sums that exceeds the memory of a device.
struct Rejections {
  Count weights = 0;      // the weights alone
  Count state = 0;        // with gradients and optimizer state
  Count activations = 0;  // with activations, inputs and caches
  [[nodiscard]] Count total() const { return weights + state + activations; }
};

struct RankedPlan {
  Plan plan;  // with its prediction
  Verdict verdict;
  program::MemoryUse memory;  // of the fullest rank
  Rank fullest{0};
};

struct SearchResult {
  std::vector<RankedPlan> plans;       // feasible, best first
  std::vector<RankedPlan> rejected;    // infeasible, those first that would be best
  std::optional<RankedPlan> smallest;  // the infeasible plan that needs least, when none fits
  Count enumerated = 0, evaluated = 0, pruned = 0;
  Rejections rejections;
  double seconds = 0;
  bool interrupted = false;
};

[[nodiscard]] SearchResult search(const Space& space, const simulator::Simulator& simulator,
                                  const SearchOptions& options);

// Memory of the fullest rank, and whether it fits the device. Ranks of a plan differ only in what
// tensor index 0 adds to a sum, so rank 0 and, under tensor slicing, rank 1 speak for all. The
// reason names rank, bytes and kind of buffer.
[[nodiscard]] RankedPlan measure_memory(Plan plan, std::int64_t limit_bytes);

}  // namespace imhotep::planner
