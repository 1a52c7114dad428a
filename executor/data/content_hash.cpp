#include "executor/data/content_hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/base/random.h"

namespace imhotep::executor {

std::uint64_t content_hash(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t state = mix64(seed ^ bytes.size());
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
    state = mix64(state ^ word);
  }
  return state;
}

std::string hash_text(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace imhotep::executor
