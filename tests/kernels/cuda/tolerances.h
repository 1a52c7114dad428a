#pragma once
// How far a CUDA kernel may be from the CPU's fp32 one on the same inputs (bf16 inputs are rounded
// before both): the only table of tolerances of the contract tests.
//   relative  ||out - reference|| / ||reference||
//   worst     max |out - reference| / max |reference|
// fp32 differs by the order of its sums; bf16 rounds each result to 8 bits (2^-9 = 0.2 % each).

#include "core/base/dtype.h"

namespace imhotep::kernels {

struct Tolerance {
  double relative = 0, worst = 0;
};

// One rounding of the result, sums in fp32.
[[nodiscard]] constexpr Tolerance tolerance(Dtype dtype) {
  return dtype == Dtype::Bf16 ? Tolerance{3e-3, 8e-3} : Tolerance{3e-6, 2e-5};
}
// Results made from intermediates that are themselves rounded (attention, gradients).
[[nodiscard]] constexpr Tolerance chained_tolerance(Dtype dtype) {
  return dtype == Dtype::Bf16 ? Tolerance{1e-2, 3e-2} : Tolerance{1e-5, 5e-5};
}

}  // namespace imhotep::kernels
