#include "gui/views/plan_scatter.h"

#include <cmath>
#include <set>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

bool can_be_logarithmic(double low, double high) { return low > 0 && high / low > 8; }

}  // namespace

PlanScatter::PlanScatter(QWidget* parent)
    : Chart("Plans by two metrics", parent),
      rows_(std::make_shared<const std::vector<std::int64_t>>()),
      drawing_(this) {}

// Jobs hold this object by a plain pointer.
PlanScatter::~PlanScatter() {
  drawing_.cancel();
  QThreadPool::globalInstance()->waitForDone();
}

void PlanScatter::show_plans(Plans plans, const std::vector<std::int64_t>& rows) {
  plans_ = std::move(plans);
  rows_ = std::make_shared<const std::vector<std::int64_t>>(rows);
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
  ++state_;
  front_.clear();
  if (!plans_) return refresh();
  for (auto [axis, name] : {std::pair{&x_, x_name_}, std::pair{&y_, y_name_}}) {
    const Column* column = plans_->find(name);
    if (column == nullptr) column = &plans_->columns.front();
    double low = INFINITY, high = -INFINITY;
    for (const std::int64_t row : *rows_) {
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
  const std::vector<std::int64_t> allowed = usable_rows(*plans_, *rows_);
  const int x = plans_->index_of(x_name_), y = plans_->index_of(y_name_);
  if (x >= 0 && y >= 0) front_ = pareto_front(*plans_, x, y, allowed);
  categories_ = Categories(*plans_, colour_name_, *rows_);
  rewrite_twin();
  refresh();
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

std::int64_t PlanScatter::point_at(const QPointF& place) const {
  return points_ && points_->state == state_ && points_->plot == plot_ ? points_->nearest(place)
                                                                       : -1;
}

PointsAsked PlanScatter::points_asked(double ratio) const {
  return {.plans = plans_,
          .rows = rows_,
          .x = x_,
          .y = y_,
          .x_name = x_name_,
          .y_name = y_name_,
          .categories = categories_,
          .plot = plot_,
          .ratio = ratio,
          .theme = &theme(),
          .state = state_};
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
