#pragma once
// Tokens to train on without a text: a deterministic stream with structure that a model can learn
// (each token is mostly a function of the two before it).

#include <cstdint>
#include <span>

#include "core/base/random.h"

namespace imhotep::test {

inline void fill_tiny_text(std::int64_t first, std::int64_t sequence, int vocab,
                           std::span<std::int32_t> inputs, std::span<std::int32_t> targets) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::int64_t global = first * sequence + static_cast<std::int64_t>(i);
    const auto token = [&](std::int64_t at) {
      const std::uint64_t base = hash(77, static_cast<std::uint64_t>(at / 3));
      return static_cast<std::int32_t>((base + static_cast<std::uint64_t>(at % 3) * 31) % vocab);
    };
    inputs[i] = token(global);
    targets[i] = token(global + 1);
  }
}

}  // namespace imhotep::test
