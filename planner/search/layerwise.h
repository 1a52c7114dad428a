#pragma once
// The full space: every layer chooses its degrees, its exchange and whether it is computed again,
// by itself. Like layers are interchangeable in time, so for every frame and ZeRO stage the best
// mixture is a LayerProblem; the frames are taken in the order of their least possible time. What
// cannot beat the best plan known is bounded away and counted.

#include "planner/search/evaluator.h"
#include "planner/search/search.h"

namespace imhotep::planner {

// Looks for a plan better than `known`, the best sum of memoised parts so far. Layers of one kind
// that measured routing tells apart are not mixed: then nothing is looked at.
[[nodiscard]] LayerwiseResult search_layers(const Space& space,
                                            const simulator::Simulator& simulator,
                                            Evaluator& evaluator, const SearchOptions& options,
                                            const std::optional<Score>& known);

}  // namespace imhotep::planner
