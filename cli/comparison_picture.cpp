#include "cli/comparison_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/base/svg.h"
#include "core/base/units.h"

namespace imhotep::cli {
namespace {

constexpr double kLabels = 350, kBars = 350, kErrors = 80, kRow = 30, kTop = 56;
constexpr double kWidth = kLabels + kBars + kErrors;

void add_axis(std::string& svg, double high, double bottom) {
  const double step = round_tick(high, 4);
  for (double v = 0; v <= high; v += step) {
    const double x = kLabels + v / high * kBars;
    fmt::format_to(std::back_inserter(svg),
                   "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#ddd\"/>\n"
                   "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
                   x, kTop - 6, bottom, bottom + 16, v > 0 ? format_time(v) : "0");
  }
}

void add_row(std::string& svg, const ComparedStep& step, double high, double top) {
  const auto x = [&](double time_us) { return kLabels + std::min(time_us / high, 1.0) * kBars; };
  const double middle = top + kRow / 2;
  fmt::format_to(
      std::back_inserter(svg),
      "<text x=\"{0}\" y=\"{1:.1f}\" text-anchor=\"end\">{2}</text>\n"
      "<rect x=\"{3}\" y=\"{4:.1f}\" width=\"{5:.1f}\" height=\"{6}\" fill=\"#8fb8d8\"/>\n",
      kLabels - 10, middle + 4, svg_escaped(step.label), kLabels, top + 6,
      x(step.measured_us) - kLabels, kRow - 12);
  fmt::format_to(
      std::back_inserter(svg),
      "<line x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" "
      "stroke=\"#c1440e\" stroke-width=\"2\"/>\n"
      "<circle cx=\"{3:.1f}\" cy=\"{2:.1f}\" r=\"4.5\" fill=\"white\" stroke=\"#c1440e\" "
      "stroke-width=\"2\"/>\n"
      "<text x=\"{4}\" y=\"{5:.1f}\" text-anchor=\"end\">{6:+.1f} %</text>\n",
      x(step.low_us), x(step.high_us), middle, x(step.predicted_us), kWidth - 12, middle + 4,
      100 * (step.predicted_us - step.measured_us) / step.measured_us);
}

}  // namespace

std::string comparison_picture(const std::string& title, const std::vector<ComparedStep>& steps) {
  double high = 1;
  for (const ComparedStep& step : steps) {
    high = std::max({high, 1.25 * step.measured_us, 1.25 * step.predicted_us});
  }
  const double bottom = kTop + kRow * static_cast<double>(steps.size());
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n"
      "<text x=\"12\" y=\"22\" font-size=\"15\">{2}</text>\n"
      "<text x=\"{3}\" y=\"42\"><tspan fill=\"#3a78a8\">&#9632; measured</tspan>  <tspan "
      "fill=\"#c1440e\">&#9675; predicted, 90 % interval</tspan></text>\n"
      "<text x=\"{4}\" y=\"42\" text-anchor=\"end\">error</text>\n",
      kWidth, bottom + 28, svg_escaped(title), kLabels, kWidth - 12);
  add_axis(svg, high, bottom);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    add_row(svg, steps[i], high, kTop + kRow * static_cast<double>(i));
  }
  return svg + "</svg>\n";
}

}  // namespace imhotep::cli
