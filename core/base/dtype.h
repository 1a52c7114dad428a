#pragma once
// Element types of buffers. Safe to include from .cu files.

#include <cstdint>

namespace imhotep {

enum class Dtype : std::uint8_t { F32, F64, Bf16, I32 };

[[nodiscard]] constexpr std::int64_t bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
    case Dtype::I32:
      return 4;
    case Dtype::F64:
      return 8;
    case Dtype::Bf16:
      return 2;
  }
  return 0;
}

}  // namespace imhotep
