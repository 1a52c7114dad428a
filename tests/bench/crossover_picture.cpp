#include "tests/bench/crossover_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/svg.h"
#include "core/base/units.h"

namespace imhotep::bench {
namespace {

constexpr double kLeft = 70, kTop = 70, kWidth = 620, kHeight = 330;

struct Ratios {
  std::vector<double> bytes, measured, priced;
};

Ratios ratios_of(const std::vector<Crossover>& rows) {
  Ratios all;
  for (const Crossover& row : rows) {
    all.bytes.push_back(row.bytes);
    all.measured.push_back(row.hierarchical_us / row.flat_us);
    all.priced.push_back(row.hierarchical_priced_us / row.flat_priced_us);
  }
  return all;
}

std::string crossover_text(double bytes) {
  if (bytes < 0) return "none";
  return bytes == 0 ? "below all sizes" : fmt::format("{:.0f} bytes", bytes);
}

// Time and bytes on logarithmic axes.
class Axes {
 public:
  explicit Axes(const std::vector<Crossover>& rows) {
    for (const Crossover& row : rows) {
      for (const double us :
           {row.flat_us, row.hierarchical_us, row.flat_priced_us, row.hierarchical_priced_us}) {
        low_ = std::min(low_, us);
        high_ = std::max(high_, us);
      }
    }
    low_ = std::pow(10, std::floor(std::log10(low_)));
    high_ = std::pow(10, std::ceil(std::log10(high_)));
    first_ = rows.front().bytes;
    last_ = rows.back().bytes;
  }
  [[nodiscard]] double x(double bytes) const {
    return kLeft + kWidth * std::log(bytes / first_) / std::log(last_ / first_);
  }
  [[nodiscard]] double y(double us) const {
    return kTop + kHeight * (1 - std::log(us / low_) / std::log(high_ / low_));
  }
  [[nodiscard]] std::string grid(const std::vector<Crossover>& rows) const {
    std::string svg;
    for (double us = low_; us <= high_ * 1.01; us *= 10) {
      svg += fmt::format(
          "<path d='M{0:.0f} {1:.1f}h{2:.0f}' class='grid'/><text x='{3:.0f}' "
          "y='{4:.1f}' text-anchor='end'>{5}</text>\n",
          kLeft, y(us), kWidth, kLeft - 8, y(us) + 4, format_time(us));
    }
    for (std::size_t i = 0; i < rows.size(); i += 2) {
      svg += fmt::format("<text x='{:.0f}' y='{:.0f}' text-anchor='middle'>{}</text>\n",
                         x(rows[i].bytes), kTop + kHeight + 18, format_bytes(rows[i].bytes));
    }
    return svg;
  }

 private:
  double low_ = 1e30, high_ = 0, first_ = 1, last_ = 2;
};

std::string curve(const Axes& axes, const std::vector<Crossover>& rows, double Crossover::*time,
                  const char* name, bool dots) {
  std::string line, marks;
  for (const Crossover& row : rows) {
    const double x = axes.x(row.bytes), y = axes.y(row.*time);
    line += fmt::format("{}{:.1f} {:.1f}", line.empty() ? "M" : " L", x, y);
    if (dots) marks += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='3'/>", x, y);
  }
  return fmt::format("<g class='{}{}'><path d='{}'/>{}</g>\n", name, dots ? "" : " priced", line,
                     marks);
}

// Where the curves cross.
std::string mark(const Axes& axes, double bytes, const char* who, double height) {
  if (bytes <= 0) return {};
  return fmt::format(
      "<path d='M{0:.1f} {1:.0f}V{2:.0f}' stroke='#555' stroke-dasharray='2 3'/>"
      "<text x='{3:.1f}' y='{4:.0f}' text-anchor='end'>{5}: flat from {6} on</text>\n",
      axes.x(bytes), kTop, kTop + kHeight, axes.x(bytes) - 6, kTop + height, who,
      format_bytes(bytes));
}

std::string legend() {
  struct Entry {
    const char *style, *text;
  };
  constexpr std::array kEntries = {
      Entry{"flat", "flat, measured"}, Entry{"flat priced", "flat, simulator"},
      Entry{"two", "hierarchical, measured"}, Entry{"two priced", "hierarchical, simulator"}};
  std::string svg;
  double x = kLeft;
  for (const auto& [style, text] : kEntries) {
    svg += fmt::format(
        "<g class='{}'><path d='M{:.0f} 50h18'/></g><text x='{:.0f}' y='54'>{}"
        "</text>\n",
        style, x, x + 23, text);
    x += 158;
  }
  return svg;
}

}  // namespace

double crossover_bytes(const std::vector<double>& bytes, const std::vector<double>& ratio) {
  for (std::size_t i = 0; i < ratio.size(); ++i) {
    if (ratio[i] < 1) continue;
    if (i == 0) return 0;
    const double part = -std::log(ratio[i - 1]) / std::log(ratio[i] / ratio[i - 1]);
    return bytes[i - 1] * std::pow(bytes[i] / bytes[i - 1], part);
  }
  return -1;
}

std::string crossover_table(const std::vector<Crossover>& rows) {
  const Ratios ratios = ratios_of(rows);
  std::string text =
      fmt::format("{:>10} {:>11} {:>11} {:>8} | {:>11} {:>11} {:>8}   simulator\n", "bytes",
                  "flat us", "hier. us", "ratio", "flat us", "hier. us", "ratio");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Crossover& row = rows[i];
    text += fmt::format("{:>10.0f} {:>11.1f} {:>11.1f} {:>8.3f} | {:>11.1f} {:>11.1f} {:>8.3f}\n",
                        row.bytes, row.flat_us, row.hierarchical_us, ratios.measured[i],
                        row.flat_priced_us, row.hierarchical_priced_us, ratios.priced[i]);
  }
  return text + fmt::format("crossover to one peer: measured {}, simulator {}\n",
                            crossover_text(crossover_bytes(ratios.bytes, ratios.measured)),
                            crossover_text(crossover_bytes(ratios.bytes, ratios.priced)));
}

std::string crossover_picture(const std::string& where, const std::vector<Crossover>& rows) {
  const Axes axes(rows);
  std::string svg = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 720 450' font-family='sans-serif' "
      "font-size='12'>\n<style>path{{fill:none;stroke-width:2}} .grid{{stroke:#ddd;"
      "stroke-width:1}} .flat{{stroke:#c0392b;fill:#c0392b}} .two{{stroke:#1f6fb2;"
      "fill:#1f6fb2}} .priced path{{stroke-dasharray:6 4;stroke-width:1.5}}</style>\n"
      "<rect width='720' height='450' fill='white'/>\n"
      "<text x='{:.0f}' y='28' font-size='15'>{}</text>\n",
      kLeft, svg_escaped(where));
  svg += legend() + axes.grid(rows);
  svg += curve(axes, rows, &Crossover::flat_priced_us, "flat", false);
  svg += curve(axes, rows, &Crossover::hierarchical_priced_us, "two", false);
  svg += curve(axes, rows, &Crossover::flat_us, "flat", true);
  svg += curve(axes, rows, &Crossover::hierarchical_us, "two", true);
  const Ratios ratios = ratios_of(rows);
  svg += mark(axes, crossover_bytes(ratios.bytes, ratios.measured), "measured", 16);
  svg += mark(axes, crossover_bytes(ratios.bytes, ratios.priced), "simulator", 34);
  return svg + fmt::format(
                   "<text x='{:.0f}' y='{:.0f}' text-anchor='middle'>bytes from a rank to "
                   "one peer</text>\n</svg>\n",
                   kLeft + kWidth / 2, kTop + kHeight + 40);
}

}  // namespace imhotep::bench
