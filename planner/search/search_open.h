#pragma once
// The search over what a request leaves open beside its degrees. Every alternative is a search of
// its own over a space of its own; they share what is known, so that whatever cannot be among the
// best of all is bounded away. The result is the optimum over all of them, and says so with counts.

#include "planner/search/search.h"
#include "planner/space/alternatives.h"

namespace imhotep::planner {

struct SearchedAlternative {
  std::string choice;
  BigCount enumerated, evaluated;  // the others were bounded away
  std::optional<Score> best;       // of the sum; none: no plan fits, or none was among the best
  std::string refused;             // why no plan of it is legal
};

struct OpenResult {
  SearchResult found;                             // of all alternatives together
  std::vector<SearchedAlternative> alternatives;  // in the order of the lists
};

// Throws: Error(Input) when no alternative has a legal plan.
[[nodiscard]] OpenResult search_open(const std::vector<Alternative>& alternatives,
                                     const simulator::Simulator& simulator,
                                     const SearchOptions& options);

// All plans with every layer by itself, where that was asked for.
[[nodiscard]] BigCount enumerated_plans(const SearchResult& found);
[[nodiscard]] BigCount evaluated_plans(const SearchResult& found);

}  // namespace imhotep::planner
