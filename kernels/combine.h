#pragma once
// The experts' rows back to their tokens, weighted: y[token] = sum over choices of
// weight * sum over copies of row. A token without a row gets zero.
// Row tables are those of kernels/dispatch.h. Pointers to per-token operands are already offset
// to the caller's share of the tokens. Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct CombineOperands {
  const void* rows = nullptr;              // data [row_end - row_base, hidden]
  const std::int32_t* range = nullptr;     // [2]: row_base, row_end; null = rows hold everything;
                                           // rows outside it count as zero
  const std::int32_t* position = nullptr;  // [tokens, k, copies], -1 = none
  const void* weight = nullptr;            // wide [tokens, k]
  void* y = nullptr;                       // out data [tokens, hidden]
};

void combine(const Queue& queue, const Combine& shape, const CombineOperands& operands);

// d_rows[position] = weight * dy[token] for every copy;
// d_weight[token, choice] = <dy[token], sum over copies of row>, 0 if dropped.
struct CombineGradOperands {
  const void* dy = nullptr;                // data [tokens, hidden]
  const void* rows = nullptr;              // data, as in the forward pass
  const std::int32_t* range = nullptr;     // as in the forward pass: of rows
  const std::int32_t* position = nullptr;  // [tokens, k, copies]
  const void* weight = nullptr;            // wide [tokens, k]
  const std::int32_t* d_range = nullptr;   // [2]: row_base, row_end of d_rows; null = everything
  void* d_rows = nullptr;                  // out data [row_end - row_base, hidden]; only positions
                                           // inside d_range are written
  void* d_weight = nullptr;                // out wide [tokens, k]
};

void combine_grad(const Queue& queue, const CombineGrad& shape,
                  const CombineGradOperands& operands);

namespace cuda {
void combine(const Queue& queue, const Combine& shape, const CombineOperands& operands);
void combine_grad(const Queue& queue, const CombineGrad& shape,
                  const CombineGradOperands& operands);
}  // namespace cuda

namespace cpu {
template <class T>
void combine(const Combine& shape, const CombineOperands& operands);
template <class T>
void combine_grad(const CombineGrad& shape, const CombineGradOperands& operands);
}  // namespace cpu

}  // namespace imhotep::kernels
