#pragma once
// The CUDA forms of the grouped product, and the rule that chooses between them. Only for the
// sources of libimhotep_cuda.so.

#include "kernels/grouped_gemm.h"

namespace imhotep::kernels::cuda {

// wgmma and TMA. Requires: fits_sm90.
void grouped_gemm_sm90(const Queue& queue, const GroupedGemm& shape,
                       const GroupedGemmOperands& operands);
// Any GPU, any sizes, any alignment; bf16 by mma.sync, fp32 by plain multiplication.
void grouped_gemm_plain(const Queue& queue, const GroupedGemm& shape,
                        const GroupedGemmOperands& operands);

// bf16 on compute capability 9.0, n and k multiples of 64, all matrices at multiples of 16 bytes,
// at most 256 experts.
[[nodiscard]] bool fits_sm90(const Queue& queue, const GroupedGemm& shape,
                             const GroupedGemmOperands& operands);

}  // namespace imhotep::kernels::cuda
