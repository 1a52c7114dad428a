#pragma once
// The search: every legal plan gets a time and the memory it needs at least, as sums of memoised
// parts; the best ones are then built and simulated whole. Spaces of more than two million plans
// are searched by branch and bound instead: what cannot reach the best ten thousand is counted
// as pruned and never looked at.

#include <functional>
#include <optional>
#include <vector>

#include "planner/objective/limits.h"
#include "planner/objective/objective.h"
#include "planner/space/big_count.h"
#include "planner/space/space.h"
#include "simulator/step.h"

namespace imhotep::planner {

struct SearchOptions {
  Objective objective = Objective::Throughput;
  int top = 5;             // plans to return
  std::size_t kept = 0;    // candidates to remember; 0: all of a small space, else ten thousand
  bool layerwise = false;  // also let layers of a kind differ
  int threads = 1;         // that price frames; the answer is the same with any number
  Limits limits;           // beside the memory of a device
  // What other searches have found: the best sums of plans whose like layers are alike, ascending,
  // and of all. As soon as there are as many as finalists(), only better plans are wanted.
  std::vector<Score> known;
  std::optional<Score> beat;
  // Called now and then with candidates done and in all; false stops the search with what it has.
  std::function<bool(double done, double total)> progress;
};

// Why plans do not fit: the first of these sums that exceeds the memory of a device.
struct Rejections {
  Count weights = 0;      // the weights alone
  Count state = 0;        // with gradients and optimizer state
  Count activations = 0;  // with activations, inputs and caches
  Count limits = 0;       // fits, but breaks a limit of time, money or energy
  [[nodiscard]] Count memory() const { return weights + state + activations; }
  [[nodiscard]] Count total() const { return memory() + limits; }
};

// Plans that are simulated whole. A memoised sum is exact unless communication overlaps
// computation; then the simulator's order may differ a little, and so there are more than `top`.
[[nodiscard]] std::size_t finalists(const SearchOptions& options, bool overlap);

struct RankedPlan {
  Plan plan;  // with its prediction
  Verdict verdict;
  program::MemoryUse memory;  // of the fullest rank
  Rank fullest{0};
  Score sum;  // its score by memoised parts, where a search found it
};

// What is known about plans whose layers choose by themselves.
struct LayerwiseResult {
  std::optional<RankedPlan> better;  // than any plan whose like layers are alike
  Score sum;                         // its score by memoised parts
  BigCount enumerated;               // = evaluated + the three below
  BigCount evaluated;                // priced whole
  BigCount over_memory;              // cannot fit: by weights, state and what layers keep
  BigCount too_slow;                 // cannot beat the best plan, or break a limit
  BigCount dominated;                // another one with the same layers done needs no more
  // The best plan is the optimum of the sum; else it is at most `gap` above it (0.01: one per
  // cent), because plans that fit by their bounds did not fit by their exact buffers.
  bool proved = false;
  double gap = 0;
  int problems = 0;  // frames and ZeRO stages that were solved, not bounded away whole
};

struct SearchResult {
  std::vector<RankedPlan> plans;       // feasible, best first
  std::vector<RankedPlan> rejected;    // infeasible, those first that would be best
  std::optional<RankedPlan> smallest;  // the infeasible plan that needs least, when none fits
  std::optional<RankedPlan> nearest;   // fits, and breaks the limits least, when none keeps them
  std::optional<Score> best_sum;       // of memoised parts: the best of those that fit
  std::vector<Score> sums;             // of all finalists that fit, ascending
  Count enumerated = 0, evaluated = 0, pruned = 0;
  Rejections rejections;
  std::optional<LayerwiseResult> layers;  // with SearchOptions::layerwise
  double seconds = 0;
  bool interrupted = false;
};

[[nodiscard]] SearchResult search(const Space& space, const simulator::Simulator& simulator,
                                  const SearchOptions& options);

// Bytes that a rank may use.
[[nodiscard]] std::int64_t memory_limit_bytes(const Request& request, const Limits& limits,
                                              int world);

// Memory of the fullest rank, and whether it fits the device. Ranks of a plan differ only in what
// tensor index 0 adds to a sum, so rank 0 and, under tensor slicing, rank 1 speak for all. The
// reason names rank, bytes and kind of buffer.
[[nodiscard]] RankedPlan measure_memory(Plan plan, std::int64_t limit_bytes,
                                        const LibraryBytes& libraries);

}  // namespace imhotep::planner
