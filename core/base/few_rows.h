#pragma once
// What the fused families of a decode step can take: sizes that their CUDA forms hold in shared
// memory. core/program/lower_decode.h lowers nothing beyond; the CPU forms have no limits.
// Safe to include from .cu files.

#include <cstdint>

namespace imhotep {

inline constexpr std::int64_t kFewRows = 128;  // of norm_gemm, norm_gate, few_experts_*
inline constexpr std::int64_t kFewRoutes = 512, kFewExperts = 256;
inline constexpr std::int64_t kFewLogits = 16384;  // tokens x experts
inline constexpr std::int64_t kFewHidden = 4096;   // of norm_gate

// Rows are read 16 bytes at a time.
[[nodiscard]] constexpr bool suits_few_rows(std::int64_t rows, std::int64_t k) {
  return rows <= kFewRows && k % 8 == 0;
}
[[nodiscard]] constexpr bool suits_few_experts(std::int64_t tokens, std::int64_t experts,
                                               std::int64_t k, std::int64_t hidden) {
  return suits_few_rows(tokens, hidden) && tokens * k <= kFewRoutes && experts <= kFewExperts &&
         tokens * experts <= kFewLogits && hidden <= kFewHidden;
}

}  // namespace imhotep
