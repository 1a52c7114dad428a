#pragma once
// How large the KV cache of a chosen plan is. No step takes longer for a larger one, so it is
// decided last: as much as memory leaves, or the largest of a list that fits.

#include "planner/search/search.h"

namespace imhotep::planner {

// Replaces kv_tokens and the memory of a plan that fits. What memory leaves is counted beside the
// programs of a server of this plan (they are larger than those of the plan's own batch), for
// contexts as long as the model allows; on a GPU five per cent stay free. Where a server would not
// fit at all, the cache is what the batch needs.
void widen_cache(RankedPlan& ranked, const KvBudget& budget, std::int64_t limit_bytes,
                 const LibraryBytes& libraries);

}  // namespace imhotep::planner
