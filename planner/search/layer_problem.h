#pragma once
// Which choice should every layer make? Layers of a kind are alike, so an answer is how many of
// them make which choice. What layers cost adds up, but for one thing: layers that share a region
// of weights share its update, whose cost depends on how many layers of each kind it holds.
//
// Solved exactly: regions are the stages of a dynamic programme whose states say how many layers of
// each kind are done and whose labels are the partial answers that no other one beats in time and
// memory; labels are cut by admissible bounds (fewest bytes and least time of what is left, and the
// Lagrangian of the memory limit). Nothing here knows what a layer is.

#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

namespace imhotep::planner {

struct LayerItem {  // one choice for one layer
  int kind = 0, region = -1;
  std::int64_t bytes = 0;
  double step_us = 0, prompt_us = 0;
};

struct TimeLimit {  // step_weight x step + prompt_weight x prompt <= limit_us
  double step_weight = 0, prompt_weight = 0;
  double limit_us = std::numeric_limits<double>::infinity();
};

struct LayerProblem {
  std::vector<int> layers;  // by kind
  std::vector<LayerItem> items;
  int regions = 0;
  // Update of a region that holds so many layers of each kind; 0 for none. Not negative.
  std::function<double(int region, const std::vector<int>& counts)> shared_us;
  double step_us = 0, prompt_us = 0;                        // of everything that is not a layer
  double step_weight = 1, prompt_weight = 0;                // what is minimised
  std::int64_t bytes_limit = 0;                             // for the layers together
  std::vector<TimeLimit> limits;                            // met by step_us and prompt_us
  double cutoff = std::numeric_limits<double>::infinity();  // only cheaper answers are wanted
  bool all = false;  // every answer below the cutoff, not only the undominated ones
};

using LayerPicks = std::vector<std::pair<int, int>>;  // (item, how many layers)

struct LayerAnswer {
  double cost = 0;
  std::int64_t bytes = 0;
  LayerPicks picks;
};

struct LayerAnswers {
  // Undominated answers below the cutoff, the cheapest first; among equals the smaller.
  std::vector<LayerAnswer> answers;
  double bound = 0;      // no answer costs less; infinite: none fits
  bool complete = true;  // false: too many labels, `bound` is all that is known
  // Why the others were not looked at: items that cannot be part of an answer that fits, or of one
  // below the cutoff, by kind; and how many whole answers were formed.
  std::vector<int> items_left_by_bytes, items_left_by_time;
  std::uint64_t formed = 0;
  bool none_fits = false;  // by bytes, whatever it costs
};

// Requires: at least one item for every kind. `most_labels` bounds time and memory.
[[nodiscard]] LayerAnswers solve(const LayerProblem& problem, std::size_t most_labels = 400'000);

}  // namespace imhotep::planner
