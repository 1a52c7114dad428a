#include "profiles/description.h"

#include <utility>

#include "profiles/families.h"
#include "profiles/families_decode.h"
#include "profiles/families_dense.h"
#include "profiles/families_head.h"
#include "profiles/families_network.h"
#include "profiles/families_routed.h"

namespace imhotep::profiles {
namespace {

struct Entry {
  FamilyInfo info;
  Variants variants;
  Work (*work)(int variant, const Key& key, ElementSizes sizes) = nullptr;
};

template <std::size_t Index>
void fill_entry(Entry& entry) {
  using Shape = std::variant_alternative_t<Index, program::Shape>;
  using Described = Family<Shape>;
  entry.variants = Described::variants();
  entry.info = {.name = program::family_name(Shape{}),
                .variants = entry.variants,
                .keys = Described::kKeys,
                .communication = Described::kCommunication};
  entry.work = &Described::work;
}

const std::array<Entry, kFamilies>& entries() {
  static const auto* const all = [] {
    auto* filled = new std::array<Entry, kFamilies>;
    [&]<std::size_t... Index>(std::index_sequence<Index...>) {
      (fill_entry<Index>((*filled)[Index]), ...);
    }
    (std::make_index_sequence<kFamilies>());
    return filled;
  }();
  return *all;
}

}  // namespace

Description describe(const program::Shape& shape) {
  return std::visit(
      [&]<class T>(const T& s) {
        using Described = Family<T>;
        return Description{.family = static_cast<std::uint8_t>(shape.index()),
                           .variant = static_cast<std::uint8_t>(Described::variant(s)),
                           .keys = static_cast<std::uint8_t>(Described::kKeys.size()),
                           .communication = Described::kCommunication,
                           .key = Described::key(s)};
      },
      shape);
}

Work work_of(const Description& description, Dtype dtype) {
  const ElementSizes sizes{.data = static_cast<double>(bytes_of(dtype)),
                           .wide = dtype == Dtype::F64 ? 8.0 : 4.0};
  return entries()[description.family].work(description.variant, description.key, sizes);
}

const FamilyInfo& family_of(int family) { return entries().at(family).info; }

std::string_view variant_text(const Description& description) {
  return entries()[description.family].variants[description.variant];
}

std::optional<Description> description_of(std::string_view family, std::string_view variant,
                                          std::span<const double> key) {
  for (int f = 0; f < kFamilies; ++f) {
    const Entry& entry = entries()[f];
    if (entry.info.name != family || entry.info.keys.size() != key.size()) continue;
    for (std::size_t v = 0; v < entry.variants.size(); ++v) {
      if (entry.variants[v] != variant) continue;
      Description found{.family = static_cast<std::uint8_t>(f),
                        .variant = static_cast<std::uint8_t>(v),
                        .keys = static_cast<std::uint8_t>(key.size()),
                        .communication = entry.info.communication};
      for (std::size_t i = 0; i < key.size(); ++i) found.key[i] = key[i];
      return found;
    }
  }
  return std::nullopt;
}

std::string collective_kind(const Description& description) {
  const std::string_view variant = variant_text(description);
  std::string kind(family_of(description.family).name);
  return variant.empty() ? kind : kind.append(" ").append(variant);
}

double collective_bytes(const Description& description, Dtype dtype, int ranks) {
  const double own = work_of(description, dtype).bytes;
  const std::string_view family = family_of(description.family).name;
  const bool by_peer = family == "all_gather" || family == "reduce_scatter" ||
                       family == "exchange_counts" || variant_text(description) == "all_gather";
  return by_peer ? own * ranks : own;
}

}  // namespace imhotep::profiles
