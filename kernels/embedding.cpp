#include "kernels/embedding.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void embedding(const Queue& queue, const Embedding& shape, const EmbeddingOperands& operands) {
  require(shape.rows >= 0 && shape.hidden >= 0 && shape.vocab_count >= 0, "embedding",
          "negative rows, hidden or vocab_count");
  if (on_cuda(queue, "embedding", &CudaFamilies::embedding, shape, operands)) return;
  on_cpu(queue, "embedding", [&](auto zero) { cpu::embedding<decltype(zero)>(shape, operands); });
}

void embedding_grad(const Queue& queue, const EmbeddingGrad& shape,
                    const EmbeddingGradOperands& operands) {
  require(shape.rows >= 0 && shape.hidden >= 0 && shape.vocab_count >= 0, "embedding_grad",
          "negative rows, hidden or vocab_count");
  if (on_cuda(queue, "embedding_grad", &CudaFamilies::embedding_grad, shape, operands)) return;
  on_cpu(queue, "embedding_grad",
         [&](auto zero) { cpu::embedding_grad<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
