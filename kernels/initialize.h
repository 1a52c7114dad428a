#pragma once
// First values of a tensor: constant + deviation * normal(seed, key, element), rounded to fp32 and
// then to the queue's type. A pure function of the element's number in the whole tensor, so that
// every degree and every device starts from the same model.
// Safe to include from .cu files.

#include <cstdint>

#include "kernels/queue.h"

namespace imhotep::kernels {

struct Initialize {
  std::uint64_t seed = 0, key = 0;  // key: of the tensor
  std::int64_t first = 0;           // number of out[0] in the tensor
  std::int64_t count = 0;
  double constant = 0, deviation = 0;
};
struct InitializeOperands {
  void* out = nullptr;  // out data [count]
};
void initialize(const Queue& queue, const Initialize& shape, const InitializeOperands& operands);

namespace cuda {
void initialize(const Queue& queue, const Initialize& shape, const InitializeOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
