#pragma once
// The optimizer's step: norm of the gradients, clipping factor, AdamW.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// total += shape.scale * sum of x^2, summed in fp64.
struct SumSquaresOperands {
  const void* x = nullptr;  // data [elements]
  double* total = nullptr;  // in/out, one value
};
void sum_squares(const Queue& queue, const SumSquares& shape, const SumSquaresOperands& operands);

// norm = sqrt(total); factor = min(1, limit / (norm + 1e-6)), or 1 without a limit. The queue's
// type does not matter. A norm that is not finite gives the factor 0.
struct ClipScaleOperands {
  const double* total = nullptr;  // one value, of all ranks
  double* norm = nullptr;         // out, one value
  double* factor = nullptr;       // out, one value
};
void clip_scale(const Queue& queue, const ClipScale& shape, const ClipScaleOperands& operands);

struct AdamWHyper {
  double lr = 0;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0;
  std::int64_t step = 1;  // 1 in the first update: the bias correction divides by 1 - beta^step
};
// g = factor * grad; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// weight = weight (1 - lr weight_decay [only the first `decayed`])
//          - lr m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps).
// With a master copy the update is made to it in fp32, and weight is its rounding.
// A factor that is not a positive number leaves all as it was: the host learns of it later.
// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.
struct AdamWOperands {
  const void* grad = nullptr;      // data [elements]
  const double* factor = nullptr;  // one value: of clip_scale; null = 1
  void* weight = nullptr;          // in/out data [elements]
  void* m = nullptr;               // in/out wide [elements]
  void* v = nullptr;               // in/out wide [elements]
  void* master = nullptr;          // in/out fp32 [elements], bf16 queues only
  AdamWHyper hyper;
};
// Requires: 0 <= decayed <= elements, step >= 1.
void adamw(const Queue& queue, const AdamW& shape, const AdamWOperands& operands);

namespace cpu {
template <class T>
void sum_squares(const SumSquares& shape, const SumSquaresOperands& operands);
template <class T>
void adamw(const AdamW& shape, const AdamWOperands& operands);
}  // namespace cpu

namespace cuda {
void sum_squares(const Queue& queue, const SumSquares& shape, const SumSquaresOperands& operands);
void clip_scale(const Queue& queue, const ClipScale& shape, const ClipScaleOperands& operands);
void adamw(const Queue& queue, const AdamW& shape, const AdamWOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
