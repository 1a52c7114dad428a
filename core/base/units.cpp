#include "core/base/units.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "core/base/fail.h"

namespace imhotep {
namespace {

using Suffix = std::pair<std::string_view, double>;

double parse_with(std::string_view text, const std::vector<Suffix>& suffixes, const char* what) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  if (end == copy.c_str() || !std::isfinite(value))
    fail_input("expected {}, got \"{}\"", what, text);
  const std::string_view rest = text.substr(static_cast<std::size_t>(end - copy.c_str()));
  for (const auto& [name, scale] : suffixes) {
    if (rest == name) return value * scale;
  }
  fail_input("expected {}, got \"{}\"", what, text);
}

std::string format_scaled(double value, const std::vector<Suffix>& units) {
  const Suffix* chosen = &units.front();
  for (const auto& unit : units) {
    if (std::abs(value) >= unit.second) chosen = &unit;
  }
  const double scaled = value / chosen->second;
  const int digits = std::abs(scaled) >= 99.95 ? 0 : std::abs(scaled) >= 9.995 ? 1 : 2;
  const char* space = chosen->first.empty() ? "" : " ";
  return fmt::format("{:.{}f}{}{}", scaled, digits, space, chosen->first);
}

}  // namespace

double parse_number(std::string_view text) {
  static const std::vector<Suffix> suffixes = {
      {"", 1},        {"k", 1e3},      {"K", 1e3},        {"M", 1e6},
      {"G", 1e9},     {"B", 1},        {"T", 1e12},       {"kB", 1e3},
      {"KB", 1e3},    {"MB", 1e6},     {"GB", 1e9},       {"TB", 1e12},
      {"Ki", 1024.0}, {"KiB", 1024.0}, {"Mi", 1048576.0}, {"MiB", 1048576.0},
      {"Gi", 0x1p30}, {"GiB", 0x1p30}, {"Ti", 0x1p40},    {"TiB", 0x1p40},
  };
  return parse_with(text, suffixes, "a number such as 8k, 1.5M or 40GiB");
}

std::int64_t parse_integer(std::string_view text) {
  const double value = parse_number(text);
  if (value != std::floor(value) || std::abs(value) > 0x1p53) {
    fail_input("expected a whole number, got \"{}\"", text);
  }
  return static_cast<std::int64_t>(value);
}

double parse_time_us(std::string_view text) {
  static const std::vector<Suffix> suffixes = {{"ns", 1e-3}, {"us", 1},     {"ms", 1e3},
                                               {"s", 1e6},   {"min", 60e6}, {"h", 3600e6}};
  return parse_with(text, suffixes, "a time such as 300us, 5ms or 2s");
}

std::string format_bytes(double bytes) {
  return format_scaled(bytes, {{"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}});
}

std::string format_time(double time_us) {
  return format_scaled(time_us, {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"h", 3600e6}});
}

std::string format_count(double count) {
  return format_scaled(count, {{"", 1}, {"k", 1e3}, {"M", 1e6}, {"B", 1e9}, {"T", 1e12}});
}

std::string format_items(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : known) {
    std::vector<std::size_t> row(candidate.size() + 1);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j < row.size(); ++j) {
        const std::size_t substituted = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace imhotep
