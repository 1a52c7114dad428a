#include "kernels/decode_stack.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void decode_stack(const Queue& queue, const DecodeStack& shape,
                  const DecodeStackOperands& operands) {
  const char* family = "decode_stack";
  require(!shape.layers.empty() && operands.layers != nullptr, family, "expected layers");
  if (shape.attention.rows == 0) return;
  if (on_cuda(queue, family, &CudaFamilies::decode_stack, shape, operands)) return;
  on_cpu(queue, family, [&](auto zero) { cpu::decode_stack<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
