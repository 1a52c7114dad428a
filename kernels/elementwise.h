#pragma once
// Operations that touch each element once. They run at memory bandwidth.
// Safe to include from .cu files.

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// out[cols] = sum over the rows of x (+ out, if shape.accumulate).
struct ColumnSumOperands {
  const void* x = nullptr;  // data [rows, cols]
  void* out = nullptr;      // in/out data [cols]
};
void column_sum(const Queue& queue, const ColumnSum& shape, const ColumnSumOperands& operands);

// y += x.
struct AddOperands {
  const void* x = nullptr;  // data [elements]
  void* y = nullptr;        // in/out data [elements]
};
void add(const Queue& queue, const Add& shape, const AddOperands& operands);

// y = 0, for every type.
struct FillOperands {
  void* y = nullptr;  // out, elements of the queue's type
};
void fill(const Queue& queue, const Fill& shape, const FillOperands& operands);

namespace cpu {
template <class T>
void column_sum(const ColumnSum& shape, const ColumnSumOperands& operands);
template <class T>
void add(const Add& shape, const AddOperands& operands);
}  // namespace cpu

namespace cuda {
void column_sum(const Queue& queue, const ColumnSum& shape, const ColumnSumOperands& operands);
void add(const Queue& queue, const Add& shape, const AddOperands& operands);
void fill(const Queue& queue, const Fill& shape, const FillOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
