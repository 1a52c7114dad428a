#include "kernels/attention_cached.h"

#include "core/base/fail.h"
#include "kernels/select.h"

namespace imhotep::kernels {

void attention_cached(const Queue& queue, const AttentionCached& shape,
                      const AttentionCachedOperands& operands) {
  require(shape.rows >= 0 && shape.heads >= 0 && shape.head_dim > 0 && shape.page_size > 0,
          "attention_cached", "expected rows, heads >= 0 and head_dim, page_size > 0");
  if (on_cuda(queue, "attention_cached", &CudaFamilies::attention_cached, shape, operands)) return;
  on_cpu(queue, "attention_cached", [&](auto zero) {
    const std::int64_t capacity = shape.max_pages * shape.page_size;
    for (std::int64_t row = 0; row < shape.rows; ++row) {
      if (operands.positions[row] >= capacity) {
        fail("attention_cached: row {}: expected a position below {}, got {}", row, capacity,
             operands.positions[row]);
      }
    }
    cpu::attention_cached<decltype(zero)>(shape, operands);
  });
}

}  // namespace imhotep::kernels
