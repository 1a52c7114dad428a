#include "gui/views/plan_points.h"

#include <cmath>
#include <limits>
#include <set>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

constexpr double kCell = 16, kReach = 12;

// As Axis::position, without the logarithm of the range for every point.
struct Placer {
  double scale, from;
  bool logarithmic;
  Placer(const Axis& axis, double length)
      : scale(length / (axis.logarithmic ? std::log(axis.high / axis.low) : axis.high - axis.low)),
        from(axis.logarithmic ? std::log(axis.low) : axis.low),
        logarithmic(axis.logarithmic) {}
  double operator()(double value) const {
    return ((logarithmic ? std::log(value) : value) - from) * scale;
  }
};

void place(const PointsAsked& asked, Points& points) {
  const QRectF& plot = asked.plot;
  const auto& rows = *asked.rows;
  points.cells_wide = static_cast<int>(plot.width() / kCell) + 2;
  const int cells_high = static_cast<int>(plot.height() / kCell) + 2;
  const std::size_t cells = static_cast<std::size_t>(points.cells_wide) * cells_high;
  constexpr double kNowhere = std::numeric_limits<double>::quiet_NaN();
  points.places.resize(rows.size(), {kNowhere, kNowhere});
  points.cell_begin.assign(cells + 1, 0);
  const Column *x = asked.plans->find(asked.x_name), *y = asked.plans->find(asked.y_name);
  if (x == nullptr || y == nullptr) return;
  const Placer across(asked.x, plot.width()), up(asked.y, plot.height());
  std::vector<std::uint32_t> own(rows.size(), static_cast<std::uint32_t>(cells));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const QPointF at(plot.left() + across(x->values[rows[i]]),
                     plot.bottom() - up(y->values[rows[i]]));
    points.places[i] = at;
    const double cx = (at.x() - plot.left()) / kCell, cy = (at.y() - plot.top()) / kCell;
    if (!(cx >= 0 && cy >= 0 && cx < points.cells_wide && cy < cells_high)) continue;
    own[i] =
        static_cast<std::uint32_t>(static_cast<int>(cy) * points.cells_wide + static_cast<int>(cx));
    ++points.cell_begin[own[i] + 1];
  }
  // Sorted by cell, by counting.
  for (std::size_t c = 0; c < cells; ++c) points.cell_begin[c + 1] += points.cell_begin[c];
  std::vector<std::uint32_t> next(points.cell_begin.begin(), points.cell_begin.end());
  points.cell_items.resize(points.cell_begin.back());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (own[i] < cells) points.cell_items[next[own[i]]++] = static_cast<std::uint32_t>(i);
  }
}

constexpr int kBox = 12;

// One for each category, and a cross for plans that do not fit.
std::vector<QImage> make_stamps(const PointsAsked& asked) {
  // Many points hide each other less when they are small and have no rim.
  constexpr std::size_t kMany = 5000;
  const bool many = asked.rows->size() > kMany;
  const Theme& theme = *asked.theme;
  std::vector<QImage> stamps;
  for (int i = 0; i <= Categories::kMost; ++i) {
    QImage stamp((QSizeF(kBox, kBox) * asked.ratio).toSize(), QImage::Format_ARGB32_Premultiplied);
    stamp.setDevicePixelRatio(asked.ratio);
    stamp.fill(Qt::transparent);
    QPainter pen(&stamp);
    pen.setRenderHint(QPainter::Antialiasing);
    const double middle = kBox / 2.0;
    if (i < Categories::kMost) {
      pen.setPen(many ? QPen(Qt::NoPen) : QPen(theme.base, 0.7));
      pen.setBrush(theme.series[i]);
      draw_marker(pen, i, {middle, middle}, many ? kPointRadius * 0.75 : kPointRadius);
    } else {
      pen.setPen(QPen(theme.faint, 1));
      pen.drawLine(QPointF(middle - 2, middle - 2), QPointF(middle + 2, middle + 2));
      pen.drawLine(QPointF(middle - 2, middle + 2), QPointF(middle + 2, middle - 2));
    }
    stamps.push_back(stamp);
  }
  return stamps;
}

// A pixel is stamped once by each category.
void stamp_all(const PointsAsked& asked, Points& points, const Stop& stop) {
  const PlanSet& plans = *asked.plans;
  const auto& rows = *asked.rows;
  const QRectF& plot = asked.plot;
  const double ratio = asked.ratio;
  const std::vector<QImage> stamps = make_stamps(asked);
  const int wide = static_cast<int>(plot.width() * ratio) + 2;
  const int high = static_cast<int>(plot.height() * ratio) + 2;
  std::vector<std::uint16_t> stamped(static_cast<std::size_t>(wide) * high, 0);
  const Column* fits = plans.find("fits");
  const bool has_limits = !(plans.question.limits == Limits{});
  QPainter painter(&points.picture);
  const QPointF corner = plot.topLeft() - QPointF(kPointRoom, kPointRoom);
  for (const bool usable : {false, true}) {
    for (std::size_t i = rows.size(); i-- > 0;) {  // the best ones come first: drawn last
      constexpr std::size_t kBetweenLooks = 16'384;
      if (i % kBetweenLooks == 0 && stop.requested()) return;
      const QPointF& place = points.places[i];
      const bool fit = fits->values[rows[i]] == 1 && (!has_limits || within_limits(plans, rows[i]));
      if (fit != usable || !std::isfinite(place.x()) || !std::isfinite(place.y())) continue;
      const int px = static_cast<int>((place.x() - plot.left()) * ratio);
      const int py = static_cast<int>((place.y() - plot.top()) * ratio);
      if (px < 0 || py < 0 || px >= wide || py >= high) continue;
      const int kind = fit ? asked.categories.of(plans, rows[i]) : Categories::kMost;
      std::uint16_t& seen = stamped[static_cast<std::size_t>(py) * wide + px];
      const auto bit = static_cast<std::uint16_t>(1U << kind);
      if ((seen & bit) != 0) continue;
      seen = static_cast<std::uint16_t>(seen | bit);
      painter.drawImage(place - corner - QPointF(kBox / 2.0, kBox / 2.0), stamps[kind]);
    }
  }
}

}  // namespace

Categories::Categories(const PlanSet& plans, const QString& column,
                       const std::vector<std::int64_t>& rows)
    : column_(plans.index_of(column)) {
  if (column_ < 0) return;
  const std::vector<double>& all = plans.columns[column_].values;
  std::set<double> different;
  double last = NAN;  // neighbours are often equal
  for (const std::int64_t row : rows) {
    constexpr std::size_t kEnough = 256;
    if (different.size() > kEnough) break;
    const double value = all[row];  // of rows that are only priced: none
    if (std::isfinite(value) && value != last) different.insert(last = value);
  }
  values_.assign(different.begin(), different.end());
  // Too many: ranges that hold the same number of different values.
  if (values_.size() <= kMost) return;
  std::vector<double> ends;
  for (int i = 0; i < kMost; ++i) {
    ends.push_back(values_[values_.size() * static_cast<std::size_t>(i) / kMost]);
  }
  values_ = ends;
}

int Categories::of(const PlanSet& plans, std::int64_t row) const {
  if (values_.empty()) return 0;
  const double value = plans.columns[column_].values[row];
  const auto after = std::upper_bound(values_.begin(), values_.end(), value);
  return std::max(0, static_cast<int>(after - values_.begin()) - 1);
}

std::int64_t Points::nearest(const QPointF& place) const {
  if (cells_wide == 0 || cell_items.empty()) return -1;
  const int cx = static_cast<int>(std::floor((place.x() - plot.left()) / kCell));
  const int cy = static_cast<int>(std::floor((place.y() - plot.top()) / kCell));
  const int high = (count_of(cell_begin) - 1) / cells_wide;
  double least = kReach * kReach;
  std::int64_t found = -1;
  for (int y = std::max(0, cy - 1); y <= std::min(high - 1, cy + 1); ++y) {
    for (int x = std::max(0, cx - 1); x <= std::min(cells_wide - 1, cx + 1); ++x) {
      const std::size_t cell = static_cast<std::size_t>(y) * cells_wide + x;
      for (std::uint32_t k = cell_begin[cell]; k < cell_begin[cell + 1]; ++k) {
        const QPointF off = places[cell_items[k]] - place;
        const double distance = QPointF::dotProduct(off, off);
        if (distance >= least) continue;
        least = distance;
        found = (*rows)[cell_items[k]];
      }
    }
  }
  return found;
}

Points stamp_points(const PointsAsked& asked, const Stop& stop) {
  Points points{.state = asked.state,
                .plot = asked.plot,
                .ratio = asked.ratio,
                .theme = asked.theme,
                .rows = asked.rows};
  const QSizeF size = asked.plot.size() + QSizeF(2 * kPointRoom, 2 * kPointRoom);
  points.picture = QImage((size * asked.ratio).toSize(), QImage::Format_ARGB32_Premultiplied);
  points.picture.setDevicePixelRatio(asked.ratio);
  points.picture.fill(Qt::transparent);
  place(asked, points);
  stamp_all(asked, points, stop);
  return points;
}

void draw_marker(QPainter& painter, int index, const QPointF& at, double r) {
  const double x = at.x(), y = at.y();
  switch (index % 8) {
    case 0:
      painter.drawEllipse(at, r, r);
      break;
    case 1:
      painter.drawRect(QRectF(x - r * 0.9, y - r * 0.9, 1.8 * r, 1.8 * r));
      break;
    case 2:
      painter.drawPolygon(
          QPolygonF({{x, y - r * 1.2}, {x + r * 1.1, y + r}, {x - r * 1.1, y + r}}));
      break;
    case 3:
      painter.drawPolygon(
          QPolygonF({{x, y - r * 1.3}, {x + r * 1.3, y}, {x, y + r * 1.3}, {x - r * 1.3, y}}));
      break;
    case 4:
      painter.drawPolygon(
          QPolygonF({{x, y + r * 1.2}, {x + r * 1.1, y - r}, {x - r * 1.1, y - r}}));
      break;
    case 5:
      painter.drawRect(QRectF(x - r * 1.3, y - r * 0.45, 2.6 * r, 0.9 * r));
      break;
    case 6:
      painter.drawRect(QRectF(x - r * 0.45, y - r * 1.3, 0.9 * r, 2.6 * r));
      break;
    default:
      painter.drawPolygon(
          QPolygonF({{x - r, y - r}, {x + r, y}, {x - r, y + r}, {x - r * 0.3, y}}));
  }
}

}  // namespace imhotep::gui
