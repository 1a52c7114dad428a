#include "executor/train/loss_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/base/svg.h"

namespace imhotep::executor {
namespace {

constexpr double kWidth = 720, kHeight = 420, kLeft = 64, kRight = 24, kTop = 44, kBottom = 52;

struct Axis {
  double low = 0, high = 1, step = 1;
  double pixel_low = 0, pixel_high = 1;
  [[nodiscard]] double at(double value) const {
    return pixel_low + (value - low) / (high - low) * (pixel_high - pixel_low);
  }
};

Axis make_axis(double low, double high, double pixel_low, double pixel_high) {
  // Values that are all but equal would give ticks too close for doubles to tell apart.
  const double size = std::max(std::abs(low), std::abs(high));
  if (high - low <= 1e-9 * size) high = low + std::max(1.0, 1e-3 * size);
  const double step = round_tick(high - low, 6);
  return {.low = std::floor(low / step) * step,
          .high = std::ceil(high / step) * step,
          .step = step,
          .pixel_low = pixel_low,
          .pixel_high = pixel_high};
}

std::string path_of(const std::vector<LossPoint>& points, const Axis& x, const Axis& y) {
  std::string path;
  for (const LossPoint& point : points) {
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x.at(point.step),
                        y.at(point.loss));
  }
  return path;
}

void add_axes(std::string& svg, const Axis& x, const Axis& y) {
  auto out = std::back_inserter(svg);
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  for (double v = y.low; v <= y.high + y.step / 2; v += y.step) {
    fmt::format_to(out, "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n",
                   kLeft, right, y.at(v), y.at(v));
    fmt::format_to(out, "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.3g}</text>\n",
                   kLeft - 8, y.at(v) + 4, v);
  }
  for (double v = x.low; v <= x.high + x.step / 2; v += x.step) {
    fmt::format_to(out, "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.0f}</text>\n",
                   x.at(v), bottom + 18, v);
  }
  fmt::format_to(out,
                 "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>\n"
                 "<text x=\"16\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {})\">"
                 "loss (nats per token)</text>\n",
                 (kLeft + right) / 2, kHeight - 12, (kTop + bottom) / 2, (kTop + bottom) / 2);
}

}  // namespace

std::string loss_picture(const std::string& title, const std::vector<LossPoint>& training,
                         const std::vector<LossPoint>& held_out) {
  double low = 1e300, high = -1e300, last = 1;
  for (const auto* points : {&training, &held_out}) {
    for (const LossPoint& point : *points) {
      low = std::min(low, point.loss);
      high = std::max(high, point.loss);
      last = std::max(last, point.step);
    }
  }
  if (low > high) low = high = 0;
  const Axis x = make_axis(0, last, kLeft, kWidth - kRight);
  const Axis y = make_axis(low, high, kHeight - kBottom, kTop);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"24\" font-size=\"15\">{3}</text>\n",
      kWidth, kHeight, kLeft, svg_escaped(title));
  add_axes(svg, x, y);
  svg += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"#0b62a4\" stroke-width=\"1.5\"/>\n",
                     path_of(training, x, y));
  for (const LossPoint& point : held_out) {
    svg += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"white\" stroke=\"#c1440e\" "
        "stroke-width=\"2\"/>\n",
        x.at(point.step), y.at(point.loss));
  }
  svg += fmt::format(
      "<text x=\"{0}\" y=\"24\" text-anchor=\"end\"><tspan fill=\"#0b62a4\">&#8212; training"
      "</tspan>  <tspan fill=\"#c1440e\">&#9675; held out</tspan></text>\n</svg>\n",
      kWidth - kRight);
  return svg;
}

}  // namespace imhotep::executor
