// A loop over the experts that have rows: each is one product of the Gemm family, which streams
// the weights of experts with a handful of rows and leaves the others to the BLAS.

#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/row_ops.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
const T* at(const void* base, std::int64_t element) {
  return base != nullptr ? static_cast<const T*>(base) + element : nullptr;
}
template <class T>
T* at(void* base, std::int64_t element) {
  return base != nullptr ? static_cast<T*>(base) + element : nullptr;
}

template <class T>
void one_expert(const GroupedGemm& s, const GroupedGemmOperands& operands, std::int64_t expert) {
  const std::int64_t first = operands.expert_offsets[expert];
  const std::int64_t rows = operands.expert_offsets[expert + 1] - first;
  const T* weight = at<T>(operands.weight, expert * s.n * s.k);
  switch (s.mode) {
    case GroupedMode::Forward:
      gemm<T>({.m = rows,
               .n = s.n,
               .k = s.k,
               .transpose_b = true,
               .epilogue = operands.bias != nullptr ? s.epilogue : Epilogue::None},
              {.a = at<T>(operands.in, first * s.k),
               .b = weight,
               .bias = at<T>(operands.bias, expert * s.n),
               .pre = at<T>(operands.pre, first * s.n),
               .c = at<T>(operands.out, first * s.n)});
      break;
    case GroupedMode::GradInput:
      gemm<T>({.m = rows, .n = s.k, .k = s.n, .epilogue = s.epilogue},
              {.a = at<T>(operands.in, first * s.n),
               .b = weight,
               .pre = at<T>(operands.pre, first * s.k),
               .c = at<T>(operands.out, first * s.k)});
      break;
    case GroupedMode::GradWeight:
      gemm<T>({.m = s.n, .n = s.k, .k = rows, .transpose_a = true, .accumulate = s.accumulate},
              {.a = at<T>(operands.in, first * s.n),
               .b = at<T>(operands.activation, first * s.k),
               .c = at<T>(operands.d_weight, expert * s.n * s.k)});
      break;
  }
}

template <class T>
IMHOTEP_INLINE void grouped_column_sum_body(const GroupedColumnSum& shape,
                                            const GroupedColumnSumOperands& operands) {
  const auto* in = static_cast<const T*>(operands.in);
  auto* out = static_cast<T*>(operands.out);
  for (std::int64_t e = 0; e < shape.experts; ++e, out += shape.cols) {
    const std::int64_t end = operands.expert_offsets[e + 1];
    for (std::int64_t row = operands.expert_offsets[e]; row < end; ++row) {
      row_add(shape.cols, in + row * shape.cols, out);
    }
  }
}

}  // namespace

template <class T>
void grouped_gemm(const GroupedGemm& shape, const GroupedGemmOperands& operands) {
  for (std::int64_t e = 0; e < shape.experts; ++e) {
    const bool writes = shape.mode == GroupedMode::GradWeight && !shape.accumulate;
    if (writes || operands.expert_offsets[e + 1] > operands.expert_offsets[e]) {
      one_expert<T>(shape, operands, e);
    }
  }
}
template void grouped_gemm<float>(const GroupedGemm&, const GroupedGemmOperands&);
template void grouped_gemm<double>(const GroupedGemm&, const GroupedGemmOperands&);

IMHOTEP_KERNEL(grouped_column_sum, GroupedColumnSum)

}  // namespace imhotep::kernels::cpu
