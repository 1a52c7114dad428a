#include "profiles/profile.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/base/content_hash.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/spec/plan.h"
#include "profiles/description.h"

namespace imhotep::profiles {
namespace {

constexpr double kContradiction = 5;  // times of one key that differ by more are not noise

std::string shown(const std::vector<double>& key) {
  return fmt::format("({})", fmt::join(key, ", "));
}

std::string title(const Table& table) {
  return fmt::format("{}{}{} {}", table.family, table.variant.empty() ? "" : " ", table.variant,
                     name_of(table.dtype));
}

// What is wrong with a single reading; empty when nothing is.
std::string problem_of(double time_us) {
  if (std::isfinite(time_us) && time_us > 0) return {};
  return "the time is not a positive number";
}

// Sorts rows by key, then turns every run of one key into one row, or refuses it.
template <class Row, class KeyOf>
void merge_rows(std::vector<Row>& rows, KeyOf key_of, const std::string& where,
                std::vector<std::string>& skipped) {
  std::stable_sort(rows.begin(), rows.end(),
                   [&](const Row& a, const Row& b) { return key_of(a) < key_of(b); });
  std::vector<Row> kept;
  for (auto first = rows.begin(); first != rows.end();) {
    auto last = first;
    double low = first->time_us, high = low, logs = 0;
    for (; last != rows.end() && key_of(*last) == key_of(*first); ++last) {
      low = std::min(low, last->time_us);
      high = std::max(high, last->time_us);
      logs += std::log(last->time_us);
    }
    if (high > kContradiction * low) {
      skipped.push_back(fmt::format("{} {}: contradictory times {} and {} us ({} rows)", where,
                                    shown(key_of(*first)), low, high, last - first));
    } else {
      Row merged = *first;
      const auto count = static_cast<double>(last - first);
      if (count > 1) merged.time_us = std::exp(logs / count);
      if (count > 1) merged.spread = std::max(merged.spread, (high - low) / high);
      kept.push_back(merged);
    }
    first = last;
  }
  rows = std::move(kept);
}

// Whether a family has this variant and these keys, in this order.
bool is_known(const Table& table) {
  const std::vector<double> any(table.keys.size(), 1);
  const auto found = description_of(table.family, table.variant, any);
  if (!found) return false;
  const auto names = family_of(found->family).keys;
  return std::equal(names.begin(), names.end(), table.keys.begin());
}

void clean(Table& table, const std::string& where, std::vector<std::string>& skipped) {
  const bool known = is_known(table);
  std::erase_if(table.points, [&](const Point& point) {
    std::string problem = problem_of(point.time_us);
    if (point.key.size() != table.keys.size()) {
      problem = fmt::format("expected {} numbers in the key", table.keys.size());
    } else if (!std::all_of(point.key.begin(), point.key.end(),
                            [](double x) { return std::isfinite(x) && x > 0; })) {
      problem = "the key is not positive";
    } else if (!known && problem.empty()) {
      problem = "no such family, variant or key";
    }
    if (problem.empty()) return false;
    skipped.push_back(fmt::format("{} {}: {}", where, shown(point.key), problem));
    return true;
  });
  merge_rows(
      table.points, [](const Point& point) { return point.key; }, where, skipped);
}

bool is_collective(const std::string& kind) {
  for (int f = 0; f < kFamilies; ++f) {
    const FamilyInfo& info = family_of(f);
    for (const std::string& variant : info.variants) {
      const std::string name = std::string(info.name) + (variant.empty() ? "" : " " + variant);
      if (info.communication && name == kind) return true;
    }
  }
  return false;
}

void clean(CollectiveTable& table, const std::string& where, std::vector<std::string>& skipped) {
  const bool known = is_collective(table.kind);
  std::erase_if(table.points, [&](const CollectivePoint& point) {
    std::string problem = problem_of(point.time_us);
    if (!std::isfinite(point.bytes) || point.bytes <= 0) problem = "the size is not positive";
    if (!known) problem = "no such collective";
    if (problem.empty()) return false;
    skipped.push_back(fmt::format("{} {} bytes: {}", where, point.bytes, problem));
    return true;
  });
  const auto key_of = [](const CollectivePoint& point) { return std::vector<double>{point.bytes}; };
  merge_rows(table.points, key_of, where, skipped);
}

void clean(Profile& profile, const std::string& file) {
  for (std::size_t i = 0; i < profile.tables.size(); ++i) {
    Table& table = profile.tables[i];
    clean(table, fmt::format("{}: $.tables[{}] {}", file, i, title(table)), profile.skipped);
  }
  for (std::size_t i = 0; i < profile.collectives.size(); ++i) {
    CollectiveTable& table = profile.collectives[i];
    clean(table,
          fmt::format("{}: $.collectives[{}] {} of {}", file, i, table.kind, table.group_size),
          profile.skipped);
  }
}

// Writers without a number for infinity put null or a word: such a reading is refused as a row,
// not as a file.
void mark_missing_times(Json& body) {
  for (const char* list : {"tables", "collectives"}) {
    const auto tables = body.find(list);
    if (tables == body.end() || !tables->is_array()) continue;
    for (Json& table : *tables) {
      if (!table.is_object() || !table.contains("points") || !table["points"].is_array()) continue;
      for (Json& point : table["points"]) {
        if (!point.is_object() || !point.contains("time_us")) continue;
        if (!point["time_us"].is_number()) point["time_us"] = -1;
      }
    }
  }
}

Profile profile_of(const JsonDocument& document) {
  Json body = document.value();
  if (!body.is_object()) document.fail_at("$", "expected an object");
  if (body.value("schema", Json()) != kProfileSchema) {
    document.fail_at("$.schema", fmt::format("expected \"{}\"", kProfileSchema));
  }
  body.erase("schema");
  mark_missing_times(body);
  Profile profile;
  FieldReader reader(document, body, "$");
  Profile::fields(profile, reader);
  reader.refuse_unknown();
  clean(profile, document.name());
  profile.hash = profile_hash(profile);
  return profile;
}

}  // namespace

Profile read_profile(const std::string& file) { return profile_of(JsonDocument::read(file)); }

Profile parse_profile(const std::string& text, const std::string& name) {
  return profile_of(JsonDocument::parse(text, name));
}

std::string profile_text(const Profile& profile) {
  return document_of(profile, kProfileSchema).dump(1) + "\n";
}

std::string profile_hash(const Profile& profile) {
  return content_hash(document_of(profile, kProfileSchema).dump());
}

void write_profile(Profile& profile, const std::string& file) {
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) fail("{}: cannot create: {}", folder.string(), error.message());
  write_text_file(file, profile_text(profile));
  profile.hash = profile_hash(profile);
}

}  // namespace imhotep::profiles
