#pragma once
// Knowledge distillation: the divergence of the student's distribution from the teacher's, both
// softened by a temperature, and its gradient.
// With p = softmax(teacher / tau), q = softmax(student / tau), over the valid columns:
//   loss     += beta tau^2 scale * sum over rows and columns of p (log p - log q)
//   dstudent (+)= beta tau scale * (q - p)
// Source: Megatron-DeepSpeed, pretrain_gpt.py (mixture-of-students), where scale = 1 / rows.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct DistillOperands {
  const void* student = nullptr;  // data [rows, cols]: logits
  const void* teacher = nullptr;  // data [rows, cols]: logits
  void* dstudent = nullptr;       // data [rows, cols], in/out if accumulate, else out; not student;
                                  // null: not wanted. Padding columns: += 0 or = 0
  double* loss = nullptr;         // in/out, one value
  double scale = 1;
  std::int64_t valid = 0;   // columns that are real words; the rest is padding
  bool accumulate = false;  // dstudent += rather than =
};
// Requires: the whole vocabulary in one part; 0 <= valid <= cols; temperature > 0.
void distill(const Queue& queue, const Distill& shape, const DistillOperands& operands);

namespace cpu {
template <class T>
void distill(const Distill& shape, const DistillOperands& operands);
}  // namespace cpu

namespace cuda {
void distill(const Queue& queue, const Distill& shape, const DistillOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
