#include "simulator/cross_validation.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/fail.h"
#include "core/base/words.h"
#include "profiles/interpolation.h"
#include "simulator/cost/roofline.h"
#include "simulator/network/network.h"

namespace imhotep::simulator {
namespace {

using profiles::RatioTable;

// Places in the key of what is left out together.
using Places = std::vector<std::size_t>;

Places all_places(std::size_t keys) {
  Places places(keys);
  for (std::size_t i = 0; i < keys; ++i) places[i] = i;
  return places;
}

Places places_of(std::span<const char* const> keys, const std::string& names,
                 const std::string& where) {
  Places places;
  for (const std::string& name : words_between_commas(names)) {
    const auto found = std::find(keys.begin(), keys.end(), name);
    if (found == keys.end()) {
      fail_input("{}: no key \"{}\"; its keys are {}", where, name, fmt::join(keys, ", "));
    }
    places.push_back(static_cast<std::size_t>(found - keys.begin()));
  }
  return places;
}

std::map<std::string, std::string> chosen(const CrossValidationOptions& options) {
  std::map<std::string, std::string> names = {{"gemm", "n,k"}, {"norm_gemm", "n,k"}};
  for (const std::string& text : options.left_out) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) {
      fail_input("expected a family and its keys, \"gemm:n,k\", got \"{}\"", text);
    }
    names[text.substr(0, colon)] = text.substr(colon + 1);
  }
  return names;
}

struct RatioPoints {
  std::vector<RatioTable::Point> ratios;
  std::vector<double> roofline_us;
};

RatioPoints ratios_of(const profiles::Table& table, const DeviceSpec& device) {
  RatioPoints points;
  for (const profiles::Point& point : table.points) {
    const auto described = profiles::description_of(table.family, table.variant, point.key);
    if (!described || described->communication) continue;
    points.roofline_us.push_back(
        roofline_us(work_of(*described, table.dtype), device, table.dtype));
    points.ratios.push_back({.key = described->key,
                             .ratio = point.time_us / points.roofline_us.back(),
                             .spread = point.spread});
  }
  return points;
}

// `alone` counts points that are a whole table by themselves.
void leave_out(const RatioPoints& points, int keys, const Places& places, std::size_t most_points,
               FamilyAccuracy& family, std::vector<HeldOut>& held_out) {
  const RatioTable table(points.ratios, keys);
  const std::size_t count = points.ratios.size();
  const std::size_t stride = (count + most_points - 1) / most_points;
  RatioTable::Mask mask(count);
  for (std::size_t i = 0; i < count; i += stride) {
    const profiles::Key& key = points.ratios[i].key;
    std::size_t left = 0;
    for (std::size_t other = 0; other < count; ++other) {
      mask[other] = std::all_of(places.begin(), places.end(), [&](std::size_t place) {
        return points.ratios[other].key[place] == key[place];
      });
      left += mask[other] ? 0 : 1;
    }
    if (left == 0) {
      ++family.alone;
      continue;
    }
    const profiles::Ratio ratio = table.at(key, &mask);
    const double roofline = points.roofline_us[i];
    held_out.push_back({.measured_us = points.ratios[i].ratio * roofline,
                        .predicted_us = ratio.value * roofline,
                        .low_us = ratio.low * roofline,
                        .high_us = ratio.high * roofline});
  }
}

std::string title_of(std::span<const char* const> keys, const Places& places) {
  std::vector<std::string> names;
  for (const std::size_t place : places) names.emplace_back(keys[place]);
  return fmt::format("{}", fmt::join(names, ", "));
}

// Each inner size from the others; the ends would be extrapolated, which is another question.
std::vector<FamilyAccuracy> collectives(const profiles::Profile& profile) {
  ClusterSpec cluster;
  cluster.device = profile.device;
  std::map<std::string, std::vector<HeldOut>> by_kind;
  std::map<std::string, std::size_t> alone;
  for (const profiles::CollectiveTable& table : profile.collectives) {
    if (table.points.size() < 3) alone[table.kind] += table.points.size();
    for (std::size_t i = 1; i + 1 < table.points.size(); ++i) {
      profiles::Profile rest;
      rest.device = profile.device;
      rest.collectives = {table};
      rest.collectives[0].points.erase(rest.collectives[0].points.begin() +
                                       static_cast<std::ptrdiff_t>(i));
      const CollectivePrices prices(cluster, rest);
      const Cost cost = prices.price(table.kind, table.points[i].bytes,
                                     even_layout(table.group_size, table.nodes));
      by_kind[table.kind].push_back({.measured_us = table.points[i].time_us,
                                     .predicted_us = cost.time_us,
                                     .low_us = cost.low_us,
                                     .high_us = cost.high_us});
    }
  }
  std::vector<FamilyAccuracy> all;
  for (const auto& [kind, points] : by_kind) {
    all.push_back({.family = kind,
                   .left_out = "bytes",
                   .alone = alone[kind],
                   .accuracy = accuracy_of(points)});
  }
  return all;
}

}  // namespace

double HeldOut::error() const { return std::abs(predicted_us / measured_us - 1); }

Accuracy accuracy_of(const std::vector<HeldOut>& points) {
  if (points.empty()) return {};
  std::vector<double> errors;
  std::size_t inside = 0;
  for (const HeldOut& point : points) {
    errors.push_back(point.error());
    inside += point.inside() ? 1 : 0;
  }
  std::sort(errors.begin(), errors.end());
  const auto at = [&](double q) {
    return errors[static_cast<std::size_t>(
        std::lround(q * static_cast<double>(errors.size() - 1)))];
  };
  return {.points = points.size(),
          .median = at(0.5),
          .p90 = at(0.9),
          .coverage = static_cast<double>(inside) / static_cast<double>(points.size())};
}

std::vector<FamilyAccuracy> cross_validate(const profiles::Profile& profile,
                                           const CrossValidationOptions& options) {
  std::map<std::string, std::string> names = chosen(options);
  std::vector<FamilyAccuracy> all;
  for (int f = 0; f < profiles::kFamilies; ++f) {
    const profiles::FamilyInfo& info = profiles::family_of(f);
    const std::string name(info.name);
    const auto wanted = names.find(name);
    const Places places = wanted == names.end() ? all_places(info.keys.size())
                                                : places_of(info.keys, wanted->second, name);
    if (wanted != names.end()) names.erase(wanted);
    FamilyAccuracy family{.family = name, .left_out = title_of(info.keys, places)};
    std::vector<HeldOut> held_out;
    for (const profiles::Table& table : profile.tables) {
      if (table.family != name || table.points.empty()) continue;
      const RatioPoints points = ratios_of(table, profile.device);
      if (points.ratios.empty()) continue;
      leave_out(points, static_cast<int>(info.keys.size()), places, options.most_points, family,
                held_out);
    }
    if (held_out.empty()) continue;
    family.accuracy = accuracy_of(held_out);
    all.push_back(std::move(family));
  }
  if (!names.empty()) fail_input("no kernel family is called \"{}\"", names.begin()->first);
  for (FamilyAccuracy& family : collectives(profile)) all.push_back(std::move(family));
  return all;
}

}  // namespace imhotep::simulator
