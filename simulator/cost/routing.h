#pragma once
// What routing does to the busiest rank. A program's shapes expect an even spread; a step waits
// for the rank with the most rows, so a whole program is priced for that one.
// Derivations: docs/cost/routing.md.

#include <span>
#include <vector>

#include "core/program/program.h"
#include "core/spec/plan.h"
#include "core/spec/workload.h"

namespace imhotep::simulator {

// Share of the routes that each expert of a layer receives; sums to 1. `moe_index` counts MoE
// layers from 0 and selects the measured histogram.
// Throws: Error(Input) when a measured histogram does not fit the layer.
[[nodiscard]] std::vector<double> expert_shares(const RoutingSpec& routing, int experts,
                                                int moe_index);

// Expected experts with at least one row: sum of 1 - (1 - share)^rows.
[[nodiscard]] double expected_active(std::span<const double> shares, double rows);

// Expected rows of the fullest of several bins, `rows` falling into them with these shares.
// Exact for equal large bins; within [largest mean, rows].
[[nodiscard]] double expected_fullest(std::span<const double> shares, double rows);

// Experts are laid over ranks in contiguous blocks of equal count.
[[nodiscard]] std::vector<double> rank_shares(std::span<const double> shares, int ranks);
[[nodiscard]] double busiest_rank_rows(std::span<const double> shares, int ranks, double rows);

// The load of one MoE layer on the rank that has most to do.
struct RoutedLoad {
  double rows = 0;     // at the experts of the busiest rank
  double factor = 1;   // of that, to the rows of a rank under an even spread
  double active = 0;   // of its experts
  double busiest = 0;  // share of its rows at its fullest expert
};
// `mean_rows`: rows of a rank under an even spread.
[[nodiscard]] RoutedLoad routed_load(std::span<const double> shares, int expert_degree,
                                     double mean_rows);

// The shape as the busiest rank meets it: rows that routing decides (bound above expectation) are
// multiplied by the factor, never beyond their bound. Other shapes are returned unchanged.
[[nodiscard]] program::Shape under_load(const program::Shape& shape, const RoutedLoad& load);
// Rows of the shape under an even spread; 0 when routing does not matter to it.
[[nodiscard]] double routed_rows(const program::Shape& shape);
// Whether those are the rows of all ranks of the expert group, each of which meets the experts that
// it holds: decode steps whose tokens are gathered first.
[[nodiscard]] bool counts_whole_group(const program::Shape& shape);

// What capacity leaves of a layer's routes. `shares` become those of the kept routes; returned is
// the part of the routes kept, to that of an even spread, which the program's shapes expect.
// routes: of one rank's tokens; capacity: of one expert for them.
double keep_within_capacity(std::vector<double>& shares, double routes, double capacity);

}  // namespace imhotep::simulator
