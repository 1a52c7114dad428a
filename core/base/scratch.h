#pragma once
// Scratch memory of the families that need some, in elements: the program reserves it, the
// kernels use it. Elements of the program's dtype.

#include <algorithm>
#include <cstdint>

#include "core/base/shapes.h"

namespace imhotep {

// Device memory that every CUDA kernel and library call may use while it runs: split sums, sorting,
// cuBLASLt (which asks for 32 MiB on Hopper), cuDNN (for the gradient of attention 4 bytes an
// element of q: 16 sequences of 1024 tokens and 1024 channels in one call). One buffer in each CUDA
// program.
inline constexpr std::int64_t kCudaWorkspaceBytes = std::int64_t{128} << 20;

inline constexpr std::int64_t kAttentionBlock = 48;  // queries handled together

// The scores of one block of queries.
[[nodiscard]] constexpr std::int64_t attention_scratch_elements(const Attention& s) {
  return std::min(kAttentionBlock, s.sequence) * s.sequence;
}
[[nodiscard]] constexpr std::int64_t attention_scratch_elements(const AttentionGrad& s) {
  return 2 * std::min(kAttentionBlock, s.sequence) * s.sequence;
}
// The scores of one row.
[[nodiscard]] constexpr std::int64_t attention_cached_scratch_elements(const AttentionCached& s) {
  return s.heads * s.max_pages * s.page_size;
}
// Of a row's sampling parameters, 8 bytes each (kernels/sample.h).
inline constexpr std::int64_t kSamplingWords = 5;

// Candidates: a value and an index each.
[[nodiscard]] constexpr std::int64_t sample_scratch_elements(const Sample& s) {
  return 2 * s.parts * s.cols;
}

}  // namespace imhotep
