#include "kernels/elementwise.h"

#include <cstring>

#include "kernels/select.h"

namespace imhotep::kernels {

void column_sum(const Queue& queue, const ColumnSum& shape, const ColumnSumOperands& operands) {
  require(shape.rows >= 0 && shape.cols >= 0, "column_sum", "negative rows or cols");
  if (on_cuda(queue, "column_sum", &CudaFamilies::column_sum, shape, operands)) return;
  on_cpu(queue, "column_sum", [&](auto zero) { cpu::column_sum<decltype(zero)>(shape, operands); });
}

void add(const Queue& queue, const Add& shape, const AddOperands& operands) {
  require(shape.elements >= 0, "add", "negative elements");
  if (on_cuda(queue, "add", &CudaFamilies::add, shape, operands)) return;
  on_cpu(queue, "add", [&](auto zero) { cpu::add<decltype(zero)>(shape, operands); });
}

void fill(const Queue& queue, const Fill& shape, const FillOperands& operands) {
  require(shape.elements >= 0, "fill", "negative elements");
  if (shape.elements == 0) return;
  if (on_cuda(queue, "fill", &CudaFamilies::fill, shape, operands)) return;
  std::memset(operands.y, 0, static_cast<std::size_t>(shape.elements * bytes_of(queue.dtype)));
}

}  // namespace imhotep::kernels
