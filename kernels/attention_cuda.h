#pragma once
// The two forms of attention over whole sequences on a GPU, for attention_cuda.cpp to choose from.
// Only for the sources of libimhotep_cuda.so.

#include "kernels/attention.h"

namespace imhotep::kernels::cuda {

// cuDNN's flash attention on bf16, in slices of sequences and heads that fit into the queue's
// workspace. False, with nothing done, where cuDNN has no kernel for the shape.
// The gradient of q is summed by atomic additions in fp32: its last bits vary from run to run.
// Throws: Error(Missing) without a cuDNN that is new enough, Error(Failed) when cuDNN fails.
[[nodiscard]] bool cudnn_attention(const Queue& queue, const Attention& shape,
                                   const AttentionOperands& operands);
[[nodiscard]] bool cudnn_attention_grad(const Queue& queue, const AttentionGrad& shape,
                                        const AttentionGradOperands& operands);

// Any head_dim up to 256, fp32 and bf16, sums in fp32, the same bits in every run. Simple: for
// checks. The gradient keeps one float for each row and head in the queue's workspace.
void plain_attention(const Queue& queue, const Attention& shape, const AttentionOperands& operands);
void plain_attention_grad(const Queue& queue, const AttentionGrad& shape,
                          const AttentionGradOperands& operands);

}  // namespace imhotep::kernels::cuda
