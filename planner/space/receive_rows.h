#pragma once
// How many rows a rank must be ready to receive in one exchange.

#include <cstdint>

#include "core/spec/plan.h"

namespace imhotep::planner {

// 0, the worst case, on processors and for at most 8 ranks: buffers are small there and nothing
// can overflow. Else ceil(min(worst case, 2 x expected + 6 standard deviations + 64)), where the
// rows received under even routing are binomial. The factor of two covers a rank whose experts
// draw twice their share; a step that exceeds the bound is replayed in smaller micro-batches.
[[nodiscard]] std::int64_t receive_rows_bound(const Plan& plan, const MoeLayerPlan& moe);

}  // namespace imhotep::planner
