#include "simulator/cross_validation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/base/fail.h"
#include "core/base/words.h"
#include "simulator/cost/measured_table.h"
#include "simulator/network/network.h"

namespace imhotep::simulator {
namespace {

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

std::vector<MeasuredPoint> points_of(const profiles::Table& table) {
  std::vector<MeasuredPoint> points;
  for (const profiles::Point& point : table.points) {
    const auto described = profiles::description_of(table.family, table.variant, point.key);
    if (!described || described->communication) continue;
    points.push_back({.key = described->key,
                      .work = work_of(*described, table.dtype),
                      .time_us = point.time_us,
                      .spread = point.spread});
  }
  return points;
}

// One table of a family, its points left out group by group.
class TableCheck {
 public:
  TableCheck(const profiles::Table& table, const DeviceSpec& device, const Places& places)
      : table_(table), device_(device), places_(places), points_(points_of(table)) {}

  // `alone` counts points that are a whole table by themselves.
  void run(std::size_t most_points, FamilyAccuracy& family, std::vector<HeldOut>& held_out) {
    if (points_.empty()) return;
    const std::size_t stride = (points_.size() + most_points - 1) / most_points;
    if (points_.size() > kMadeAnew) whole_.emplace(points_, keys(), device_, table_.dtype);
    for (std::size_t i = 0; i < points_.size(); i += stride) {
      const MeasuredPoint& point = points_[i];
      const std::vector<bool> mask = like(point);
      if (std::find(mask.begin(), mask.end(), false) == mask.end()) {
        ++family.alone;
        continue;
      }
      const MeasuredTable::Answer answer = predict(point, mask);
      const double around = answer.time_us / answer.ratio.value;
      held_out.push_back({.measured_us = point.time_us,
                          .predicted_us = answer.time_us,
                          .low_us = answer.ratio.low * around,
                          .high_us = answer.ratio.high * around,
                          .outside = outside(point, mask),
                          .what = fmt::format("{} {} ({})", table_.family, table_.variant,
                                              fmt::join(table_.points[i].key, ", "))});
    }
  }

 private:
  static constexpr std::size_t kMadeAnew = 100;  // points; larger tables hardly miss a few

  [[nodiscard]] int keys() const { return static_cast<int>(table_.keys.size()); }

  [[nodiscard]] std::vector<bool> like(const MeasuredPoint& point) const {
    std::vector<bool> mask(points_.size());
    for (std::size_t other = 0; other < points_.size(); ++other) {
      mask[other] = std::all_of(places_.begin(), places_.end(), [&](std::size_t place) {
        return points_[other].key[place] == point.key[place];
      });
    }
    return mask;
  }

  // Whether some key lies beyond all that was left.
  [[nodiscard]] bool outside(const MeasuredPoint& point, const std::vector<bool>& mask) const {
    for (int key = 0; key < keys(); ++key) {
      bool less = false, more = false;
      for (std::size_t i = 0; i < points_.size(); ++i) {
        if (mask[i]) continue;
        less |= points_[i].key[key] <= point.key[key];
        more |= points_[i].key[key] >= point.key[key];
      }
      if (!less || !more) return true;
    }
    return false;
  }

  // A small table is made anew without the points: they may not have their part in its constants.
  MeasuredTable::Answer predict(const MeasuredPoint& point, const std::vector<bool>& mask) {
    if (whole_) return whole_->at(point.key, point.work, device_, table_.dtype, &mask);
    std::vector<MeasuredPoint> rest;
    for (std::size_t i = 0; i < points_.size(); ++i) {
      if (!mask[i]) rest.push_back(points_[i]);
    }
    return MeasuredTable(rest, keys(), device_, table_.dtype)
        .at(point.key, point.work, device_, table_.dtype);
  }

  const profiles::Table& table_;
  const DeviceSpec& device_;
  const Places& places_;
  std::vector<MeasuredPoint> points_;
  std::optional<MeasuredTable> whole_;
};

std::string title_of(std::span<const char* const> keys, const Places& places) {
  std::vector<std::string> names;
  for (const std::size_t place : places) names.emplace_back(keys[place]);
  return fmt::format("{}", fmt::join(names, ", "));
}

void set_accuracy(FamilyAccuracy& family, std::vector<HeldOut> points, std::size_t worst) {
  family.accuracy = accuracy_of(points);
  std::vector<HeldOut> inside;
  for (const HeldOut& point : points) {
    if (!point.outside) inside.push_back(point);
  }
  family.inside_grid = accuracy_of(inside);
  std::stable_sort(points.begin(), points.end(),
                   [](const auto& a, const auto& b) { return a.error() > b.error(); });
  points.resize(std::min(points.size(), worst));
  family.worst = std::move(points);
}

// Each inner size from the others; the ends would be extrapolated, which is another question.
std::vector<FamilyAccuracy> collectives(const profiles::Profile& profile, std::size_t worst) {
  ClusterSpec cluster;
  cluster.device = profile.device;
  std::map<std::string, std::vector<HeldOut>> by_kind;
  std::map<std::string, std::size_t> alone;
  for (const profiles::CollectiveTable& table : profile.collectives) {
    if (table.points.size() < 3) alone[table.kind] += table.points.size();
    for (std::size_t i = 1; i + 1 < table.points.size(); ++i) {
      profiles::Profile rest;
      rest.device = profile.device;
      rest.kernels = profile.kernels;
      rest.collectives = {table};
      rest.collectives[0].points.erase(rest.collectives[0].points.begin() +
                                       static_cast<std::ptrdiff_t>(i));
      const CollectivePrices prices(cluster, rest);
      const Cost cost = prices.at_size(table.kind, table.points[i].bytes,
                                       even_layout(table.group_size, table.nodes));
      by_kind[table.kind].push_back({.measured_us = table.points[i].time_us,
                                     .predicted_us = cost.time_us,
                                     .low_us = cost.low_us,
                                     .high_us = cost.high_us,
                                     .what = fmt::format("{} of {} ({:g} bytes)", table.kind,
                                                         table.group_size, table.points[i].bytes)});
    }
  }
  std::vector<FamilyAccuracy> all;
  for (auto& [kind, points] : by_kind) {
    all.push_back({.family = kind, .left_out = "bytes", .alone = alone[kind]});
    set_accuracy(all.back(), std::move(points), worst);
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
      TableCheck(table, profile.device, places).run(options.most_points, family, held_out);
    }
    if (held_out.empty()) continue;
    set_accuracy(family, std::move(held_out), options.worst);
    all.push_back(std::move(family));
  }
  if (!names.empty()) fail_input("no kernel family is called \"{}\"", names.begin()->first);
  for (FamilyAccuracy& family : collectives(profile, options.worst))
    all.push_back(std::move(family));
  return all;
}

}  // namespace imhotep::simulator
