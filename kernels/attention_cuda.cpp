// Attention over whole sequences and over pages: entries of the table of CUDA kernels.

#include "kernels/attention_cuda.h"

#include "kernels/attention_cached.h"
#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void attention(const Queue& queue, const Attention& shape, const AttentionOperands& operands) {
  if (shape.batch * shape.heads * shape.sequence == 0) return;
  if (queue.dtype == Dtype::Bf16 && cudnn_attention(queue, shape, operands)) return;
  plain_attention(queue, shape, operands);
}

void attention_grad(const Queue& queue, const AttentionGrad& shape,
                    const AttentionGradOperands& operands) {
  if (shape.batch * shape.heads * shape.sequence == 0) return;
  if (queue.dtype == Dtype::Bf16 && cudnn_attention_grad(queue, shape, operands)) return;
  plain_attention_grad(queue, shape, operands);
}

void add_attention(CudaFamilies& families) {
  families.attention = attention;
  families.attention_grad = attention_grad;
  families.attention_cached = attention_cached;
}

}  // namespace imhotep::kernels::cuda
