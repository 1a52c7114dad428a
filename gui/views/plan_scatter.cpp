#include "gui/views/plan_scatter.h"

#include <cmath>
#include <set>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

constexpr double kCell = 16, kReach = 12;

bool can_be_logarithmic(double low, double high) { return low > 0 && high / low > 8; }

}  // namespace

PlanScatter::PlanScatter(QWidget* parent) : Chart("Plans by two metrics", parent) {}

void PlanScatter::show_plans(Plans plans, const std::vector<std::int64_t>& rows) {
  plans_ = std::move(plans);
  rows_ = rows;
  hovered_ = -1;
  find_axes();
}

void PlanScatter::set_axes(const QString& x, const QString& y, const QString& colour) {
  if (x == x_name_ && y == y_name_ && colour == colour_name_) return;
  x_name_ = x;
  y_name_ = y;
  colour_name_ = colour;
  find_axes();
}

void PlanScatter::set_logarithmic(bool logarithmic) {
  logarithmic_ = logarithmic;
  find_axes();
}

void PlanScatter::set_selected(std::int64_t row) {
  selected_ = row;
  if (plans_ && row >= 0) announce("Chosen: " + card_of(row).join(", ") + ".");
  update();
}

void PlanScatter::find_axes() {
  places_.clear();
  front_.clear();
  if (!plans_) return refresh();
  for (auto [axis, name] : {std::pair{&x_, x_name_}, std::pair{&y_, y_name_}}) {
    const Column* column = plans_->find(name);
    if (column == nullptr) column = &plans_->columns.front();
    double low = INFINITY, high = -INFINITY;
    for (const std::int64_t row : rows_) {
      const double value = column->values[row];
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    if (!(low <= high)) low = 0, high = 1;
    *axis = Axis{.low = low, .high = high};
    axis->logarithmic = logarithmic_ && can_be_logarithmic(low, high);
    const Column::Unit unit = column->unit_for(high);
    axis->scale = unit.scale;
    axis->title = column->title + (unit.name.isEmpty() ? "" : " (" + unit.name + ")") +
                  (axis->logarithmic ? ", logarithmic" : "");
    axis->brief = QString(column->name).replace('_', ' ') +
                  (unit.name.isEmpty() ? "" : " (" + unit.name + ")");
    axis->widen();
  }
  const std::vector<std::int64_t> allowed = usable_rows(*plans_, rows_);
  const int x = plans_->index_of(x_name_), y = plans_->index_of(y_name_);
  if (x >= 0 && y >= 0) front_ = pareto_front(*plans_, x, y, allowed);
  find_categories();
  rewrite_twin();
  refresh();
}

void PlanScatter::find_categories() {
  categories_.clear();
  const Column* column = plans_->find(colour_name_);
  if (column == nullptr) return;
  colour_values_ = column->values.data();
  std::set<double> values;
  double last = NAN;  // neighbours are often equal
  for (const std::int64_t row : rows_) {
    constexpr std::size_t kEnough = 256;
    if (values.size() > kEnough) break;
    const double value = column->values[row];  // of rows that are only priced: none
    if (std::isfinite(value) && value != last) values.insert(last = value);
  }
  categories_.assign(values.begin(), values.end());
  // Too many: ranges that hold the same number of different values.
  if (categories_.size() <= kMostCategories) return;
  std::vector<double> ends;
  for (int i = 0; i < kMostCategories; ++i) {
    ends.push_back(categories_[categories_.size() * static_cast<std::size_t>(i) / kMostCategories]);
  }
  categories_ = ends;
}

int PlanScatter::category_of(std::int64_t row) const {
  if (categories_.empty()) return 0;
  const double value = colour_values_[row];
  const auto after = std::upper_bound(categories_.begin(), categories_.end(), value);
  return std::max(0, static_cast<int>(after - categories_.begin()) - 1);
}

QPointF PlanScatter::place_of(std::int64_t row) const {
  const double x = plans_->value(x_name_, row), y = plans_->value(y_name_, row);
  return {plot_.left() + x_.position(x) * plot_.width(),
          plot_.bottom() - y_.position(y) * plot_.height()};
}

void PlanScatter::layout(const QSizeF& size) {
  const QFontMetricsF metrics(font());
  double legend = metrics.horizontalAdvance("does not fit");
  if (const Column* column = plans_->find(colour_name_)) {
    legend =
        std::max(legend, std::min(size.width() * 0.25, metrics.horizontalAdvance(column->title)));
  }
  plot_ = plot_area(size, metrics, y_, legend + metrics.height() * 2.6, metrics.height());
}

void PlanScatter::place_points() {
  cells_wide_ = static_cast<int>(plot_.width() / kCell) + 2;
  const int cells_high = static_cast<int>(plot_.height() / kCell) + 2;
  const std::size_t cells = static_cast<std::size_t>(cells_wide_) * cells_high;
  places_.resize(rows_.size());
  cell_begin_.assign(cells + 1, 0);
  cell_items_.clear();
  const Column* x = plans_->find(x_name_);
  const Column* y = plans_->find(y_name_);
  if (x == nullptr || y == nullptr) return;
  // As Axis::position, without the logarithm of the range for every point.
  const auto placer = [](const Axis& axis, double length) {
    const double range = axis.logarithmic ? std::log(axis.high / axis.low) : axis.high - axis.low;
    const double from = axis.logarithmic ? std::log(axis.low) : axis.low;
    return [scale = length / range, from, logarithmic = axis.logarithmic](double value) {
      return ((logarithmic ? std::log(value) : value) - from) * scale;
    };
  };
  const auto across = placer(x_, plot_.width()), up = placer(y_, plot_.height());
  std::vector<std::uint32_t> own(rows_.size(), static_cast<std::uint32_t>(cells));
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    places_[i] = {plot_.left() + across(x->values[rows_[i]]),
                  plot_.bottom() - up(y->values[rows_[i]])};
    const double cx = (places_[i].x() - plot_.left()) / kCell;
    const double cy = (places_[i].y() - plot_.top()) / kCell;
    if (!(cx >= 0 && cy >= 0 && cx < cells_wide_ && cy < cells_high)) continue;
    own[i] = static_cast<std::uint32_t>(static_cast<int>(cy) * cells_wide_ + static_cast<int>(cx));
    ++cell_begin_[own[i] + 1];
  }
  // Points sorted by cell, by counting.
  for (std::size_t c = 0; c < cells; ++c) cell_begin_[c + 1] += cell_begin_[c];
  std::vector<std::uint32_t> next(cell_begin_.begin(), cell_begin_.end());
  cell_items_.resize(cell_begin_.back());
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (own[i] < cells) cell_items_[next[own[i]]++] = static_cast<std::uint32_t>(i);
  }
}

std::int64_t PlanScatter::point_at(const QPointF& place) const {
  if (cells_wide_ == 0 || cell_items_.empty()) return -1;
  const int cx = static_cast<int>(std::floor((place.x() - plot_.left()) / kCell));
  const int cy = static_cast<int>(std::floor((place.y() - plot_.top()) / kCell));
  const int high = (count_of(cell_begin_) - 1) / cells_wide_;
  double nearest = kReach * kReach;
  std::int64_t found = -1;
  for (int y = std::max(0, cy - 1); y <= std::min(high - 1, cy + 1); ++y) {
    for (int x = std::max(0, cx - 1); x <= std::min(cells_wide_ - 1, cx + 1); ++x) {
      const std::size_t cell = static_cast<std::size_t>(y) * cells_wide_ + x;
      for (std::uint32_t k = cell_begin_[cell]; k < cell_begin_[cell + 1]; ++k) {
        const std::uint32_t i = cell_items_[k];
        const QPointF off = places_[i] - place;
        const double distance = QPointF::dotProduct(off, off);
        if (distance >= nearest) continue;
        nearest = distance;
        found = rows_[i];
      }
    }
  }
  return found;
}

std::vector<PlanScatter::Limit> PlanScatter::limits() const {
  std::vector<Limit> found;
  if (!plans_) return found;
  const Limits& limits = plans_->question.limits;
  const std::tuple<const char*, const char*, double, bool> kKnown[] = {
      {"time", "time_us", limits.time_us, true},
      {"prompt", "prompt_us", limits.prompt_us, true},
      {"tokens", "tokens_per_s", limits.tokens_per_s, false},
      {"memory", "memory_bytes", limits.memory_bytes, true},
      {"cost", "cost_per_mtoken", limits.cost_per_mtoken, true}};
  for (const bool across : {true, false}) {
    const QString& name = across ? x_name_ : y_name_;
    for (const auto& [column, field, value, at_most] : kKnown) {
      if (name != column) continue;
      const Axis& axis = across ? x_ : y_;
      // Without a limit its line waits at the end of the axis, to be dragged in.
      found.push_back({.field = QString("limits.") + field,
                       .value = value > 0 ? std::clamp(value, axis.low, axis.high)
                                : at_most ? axis.high
                                          : axis.low,
                       .across = across,
                       .at_most = at_most});
    }
    if (name == u"memory" && plans_->question.cluster.device.kind == DeviceKind::Cuda) {
      const auto held = static_cast<double>(plans_->question.cluster.device.memory_bytes);
      const Axis& axis = across ? x_ : y_;
      if (held > axis.low && held < axis.high) {
        found.push_back({.field = "capacity", .value = held, .across = across, .fixed = true});
      }
    }
  }
  return found;
}

}  // namespace imhotep::gui
