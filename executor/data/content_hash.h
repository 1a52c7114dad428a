#pragma once
// A 64-bit hash of bytes that tells one file from another. Not for adversaries.

#include <cstdint>
#include <string>
#include <string_view>

namespace imhotep::executor {

// Little endian words through the finaliser of splitmix64 (core/base/random.h). Chains: the hash
// of one text may seed that of the next.
[[nodiscard]] std::uint64_t content_hash(std::string_view bytes, std::uint64_t seed = 0);
[[nodiscard]] std::string hash_text(std::uint64_t hash);  // 16 hexadecimal digits

}  // namespace imhotep::executor
