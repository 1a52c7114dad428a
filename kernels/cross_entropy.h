#pragma once
// The language model's loss, with the vocabulary divided among ranks.
// Every rank reduces its columns to three numbers a row (SoftmaxStats); all ranks' numbers are
// gathered, and each rank turns its logits into their gradient (CrossEntropy).
// Column c of a part is word vocab_begin + c; words from `valid` on are padding of the vocabulary
// and take no part.
// Source: Shoeybi et al., "Megatron-LM" (2019), section 3 (fused parallel cross entropy).
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// stats[row] = {maximum, sum of exp(logit - maximum), logit of the target or 0 if it is not in
// this part}. Without a valid column: {-infinity, 0, 0}.
struct SoftmaxStatsOperands {
  const void* logits = nullptr;           // data [rows, cols]
  const std::int32_t* targets = nullptr;  // table [rows]: words of the whole vocabulary; -1: ignore
  void* stats = nullptr;                  // out wide [rows, 3]
};
// Throws: Error(Failed) for a target at or above `valid`; a GPU reports TargetOutOfRange instead.
void softmax_stats(const Queue& queue, const SoftmaxStats& shape,
                   const SoftmaxStatsOperands& operands);

// logprob[row] = log probability of the target, 0 for an ignored row; loss_sum -= their sum.
// With shape.gradient: logits = scale * (softmax - onehot), and 0 in ignored rows and padding.
struct CrossEntropyOperands {
  const void* stats = nullptr;            // wide [parts, rows, 3]
  const std::int32_t* targets = nullptr;  // table [rows]
  void* logits = nullptr;                 // in/out data [rows, cols]; unused without gradient
  void* logprob = nullptr;                // out wide [rows]
  double* loss_sum = nullptr;             // in/out, one value
  double scale = 1;                       // of the gradient: 1 / rows counted by all ranks
};
void cross_entropy(const Queue& queue, const CrossEntropy& shape,
                   const CrossEntropyOperands& operands);

namespace cpu {
template <class T>
void softmax_stats(const SoftmaxStats& shape, const SoftmaxStatsOperands& operands);
template <class T>
void cross_entropy(const CrossEntropy& shape, const CrossEntropyOperands& operands);
}  // namespace cpu

namespace cuda {
void softmax_stats(const Queue& queue, const SoftmaxStats& shape,
                   const SoftmaxStatsOperands& operands);
void cross_entropy(const Queue& queue, const CrossEntropy& shape,
                   const CrossEntropyOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
