#pragma once
// How the best plan depends on one quantity: up to here this plan, from there on that one.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/search/search.h"
#include "profiles/profile.h"

namespace imhotep::planner {

enum class Quantity : std::uint8_t {
  Batch,  // sequences at once, or a step
  Skew,   // Zipf exponent of routing
  Link,   // bandwidth of both links, as a factor
};

// A request and the prices it is judged by.
struct Case {
  Request request;
  std::optional<profiles::Profile> profile;
  Objective objective{};
  Limits limits;
};

// The same case where the quantity has that value. Batches are whole; 0 of a skew is even routing.
[[nodiscard]] Case changed(const Case& from, Quantity quantity, double value);
[[nodiscard]] double value_of(const Case& from, Quantity quantity);  // Link: 1

// The best plan, if one is feasible.
[[nodiscard]] std::optional<RankedPlan> best_of(const Case& one);

// What makes two plans the same but for what the quantity forces: the split of a batch may follow
// from the batch.
[[nodiscard]] std::string degrees_key(const Plan& plan, bool with_split);

struct Band {
  double from = 0, to = 0;         // both included
  std::optional<RankedPlan> plan;  // at `from`; none: nothing is feasible
};

struct Range {
  Quantity quantity{};
  double from = 0, to = 0;
};
// "batch=1:128". Throws: Error(Input).
[[nodiscard]] Range parse_range(std::string_view text);

// Bands from `from` to `to`, found on a grid of powers of two (skew: tenths) and refined by
// halving: a plan that is best only between two neighbours of the grid is not seen. Batches switch
// at whole numbers up to 50 and within two per cent above, other quantities within one per cent.
// `stop` is asked between searches.
[[nodiscard]] std::vector<Band> bands(const Case& one, const Range& range,
                                      const std::function<bool()>& stop = {});

// Where the best plan changes, going down and going up from the present value, by at most a
// factor of 4 (skew: 1.5).
struct Flip {
  Quantity quantity{};
  double now = 0;
  std::optional<double> below, above;
  std::optional<RankedPlan> plan_below, plan_above;
};
[[nodiscard]] Flip flip_of(const Case& one, Quantity quantity,
                           const std::function<bool()>& stop = {});

}  // namespace imhotep::planner

IMHOTEP_ENUM_NAMES(imhotep::planner::Quantity, {imhotep::planner::Quantity::Batch, "batch"},
                   {imhotep::planner::Quantity::Skew, "skew"},
                   {imhotep::planner::Quantity::Link, "link"})
