#pragma once
// What the time of an operation depends on: its family, its variant (options in words, such as
// "nt bias_gelu"), a few numbers, and the work that follows from them. Calibration records points
// under these names and numbers and the simulator prices by them, so that the two cannot differ.
// Work is a function of (variant, key) alone: a profile needs to store nothing else.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/dtype.h"
#include "core/program/program.h"

namespace imhotep::profiles {

inline constexpr int kMostKeys = 5;
using Key = std::array<double, kMostKeys>;  // unused places are 0

// Multiply-adds count two. Bytes are what a kernel must move at least, each operand once.
struct Work {
  double flops = 0;
  double bytes = 0;
  double depth = 0;  // elements that one tile sums over, one after the other; 0: not said
};

struct Description {
  std::uint8_t family = 0;   // index in program::Shape
  std::uint8_t variant = 0;  // index in family_of(family).variants
  std::uint8_t keys = 0;
  bool communication = false;
  Key key{};
  bool operator==(const Description&) const = default;
};

// Of every family, through one std::visit: a family that is not described does not compile.
[[nodiscard]] Description describe(const program::Shape& shape);
[[nodiscard]] Work work_of(const Description& description, Dtype dtype);

struct FamilyInfo {
  std::string_view name;                  // as program::family_name
  std::span<const std::string> variants;  // "" for a family without options
  std::span<const char* const> keys;      // names of the numbers
  bool communication = false;
};
inline constexpr int kFamilies = static_cast<int>(std::variant_size_v<program::Shape>);
[[nodiscard]] const FamilyInfo& family_of(int family);
[[nodiscard]] std::string_view variant_text(const Description& description);

// The description that a row of a profile stands for; nothing when no such family, variant or
// number of keys exists.
[[nodiscard]] std::optional<Description> description_of(std::string_view family,
                                                        std::string_view variant,
                                                        std::span<const double> key);

// ---- communication

// Name of a collective in a profile: "all_reduce", "exchange_rows flat".
[[nodiscard]] std::string collective_kind(const Description& description);

// Bytes by which collectives are measured and priced, in a group of `ranks`:
//   all_reduce                    the buffer
//   all_gather, all_gather_rows   what every rank holds afterwards
//   reduce_scatter                what every rank holds before
//   exchange_rows all_gather      what every rank holds afterwards, rows that it drops included
//   exchange_rows, _counts else   what the fullest rank sends or receives, own part included
[[nodiscard]] double collective_bytes(const Description& description, Dtype dtype, int ranks);

}  // namespace imhotep::profiles
