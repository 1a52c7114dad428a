#pragma once
// Chooses the next token of every row. The vocabulary lies in `parts` consecutive blocks of
// columns, as ranks hold it; how it is divided does not change the choice.
// In this order: temperature, the top_k most probable words, of those the most probable ones that
// together reach top_p. The draw is a pure function of seed and counter.
// Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/scratch.h"
#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct SampleParameters {
  double temperature = 0;  // 0: the most probable word; of equal ones that with the lowest number
  double top_p = 1;        // outside (0, 1): no limit
  std::int64_t top_k = 0;  // <= 0: no limit
  std::uint64_t seed = 0, counter = 0;  // counter: of the position, so that no draw repeats
};

struct SampleOperands {
  const void* logits = nullptr;                  // data [parts, rows, cols]
  const SampleParameters* parameters = nullptr;  // [rows]
  std::int32_t* tokens = nullptr;                // out table [rows]
  void* logprob = nullptr;  // out wide [rows]: of the token, at temperature 1 and without limits
  void* scratch = nullptr;  // data, aligned for std::int64_t
};
// Requires: 0 < valid <= parts * cols.   Throws: Error(Failed) for a negative temperature; on a
// GPU, where the parameters lie in device memory and scratch is not used, the caller answers for
// that.
void sample(const Queue& queue, const Sample& shape, const SampleOperands& operands);

namespace cpu {
template <class T>
void sample(const Sample& shape, const SampleOperands& operands);
}  // namespace cpu

namespace cuda {
void sample(const Queue& queue, const Sample& shape, const SampleOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
