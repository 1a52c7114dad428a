#pragma once
// Experts' second product of a decode step of more than 8 tokens. Internal to libimhotep_cuda.so.

#include "kernels/few_experts.h"

namespace imhotep::kernels::cuda {

// few_experts_down, for shapes that it takes. Async.
void few_experts_down_many(const Queue& queue, const FewExpertsDown& shape,
                           const FewExpertsDownOperands& operands);

}  // namespace imhotep::kernels::cuda
