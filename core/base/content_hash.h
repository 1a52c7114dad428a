#pragma once
// A short name for a text: 64-bit FNV-1a as 16 hexadecimal digits. Finds accidental differences
// (another plan, another profile), not forgeries.
// Source: G. Fowler, L. C. Noll, K.-P. Vo, "FNV non-cryptographic hash", offset basis and prime.

#include <cstdint>
#include <string>
#include <string_view>

namespace imhotep {

[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

[[nodiscard]] inline std::string content_hash(std::string_view text) {
  std::string digits(16, '0');
  std::uint64_t hash = fnv1a(text);
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, hash >>= 4) {
    *digit = "0123456789abcdef"[hash & 15];
  }
  return digits;
}

}  // namespace imhotep
