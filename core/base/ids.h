#pragma once
// Small strong ids, so that a rank is never passed where a layer is meant.

#include <compare>
#include <cstdint>

namespace imhotep {

template <class Tag>
struct Id {
  std::int32_t value = -1;
  constexpr Id() = default;
  constexpr explicit Id(std::int64_t v) : value(static_cast<std::int32_t>(v)) {}
  [[nodiscard]] constexpr bool valid() const { return value >= 0; }
  constexpr auto operator<=>(const Id&) const = default;
};

using Rank = Id<struct RankTag>;
using BufferId = Id<struct BufferTag>;
using GroupId = Id<struct GroupTag>;

}  // namespace imhotep
