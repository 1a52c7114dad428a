#include "gui/views/plan_scatter.h"

#include <cmath>
#include <set>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
PlanScatter::PlanScatter(QWidget* parent)
    : Chart("Plans by two metrics", parent), looking_(this), drawing_(this) {
  asked_.rows = view_.of.rows = std::make_shared<const std::vector<std::int64_t>>();
}

// Jobs hold this object by a plain pointer.
PlanScatter::~PlanScatter() {
  looking_.cancel();
  drawing_.cancel();
  QThreadPool::globalInstance()->waitForDone();
}

void PlanScatter::set_asked(const ScatterAsked& asked) {
  asked_ = asked;
  look();
}

void PlanScatter::show_rows(const Rows& rows) {
  if (rows == asked_.rows) return;
  asked_.rows = rows;
  look();
}

void PlanScatter::set_axes(const QString& x, const QString& y, const QString& colour) {
  if (x == asked_.x_name && y == asked_.y_name && colour == asked_.colour_name) return;
  asked_.x_name = x;
  asked_.y_name = y;
  asked_.colour_name = colour;
  look();
}

void PlanScatter::set_logarithmic(bool logarithmic) {
  asked_.logarithmic = logarithmic;
  look();
}

void PlanScatter::set_selected(std::int64_t row) {
  selected_ = row;
  announce_selected();
  update();
}

void PlanScatter::announce_selected() {
  const bool shown = view_.of.plans && is_current() && selected_ >= 0;
  announce(shown ? "Chosen: " + card_of(selected_).join(", ") + "." : QString());
}

void PlanScatter::look() {
  if (asked_.rows->size() <= kFew) {
    looking_.cancel();
    return accept(view_of(asked_));
  }
  looking_.start([asked = asked_](const Stop& /*stop*/) { return view_of(asked); },
                 [this](ScatterView view) { accept(std::move(view)); });
  update();
}

void PlanScatter::accept(ScatterView view) {
  ++state_;
  hovered_ = -1;
  const bool others = view_.of.plans != view.of.plans;
  view_ = std::move(view);
  rewrite_twin();
  refresh();
  if (others) announce_selected();
}

QPointF PlanScatter::place_of(std::int64_t row) const {
  const double x = view_.of.plans->value(view_.of.x_name, row),
               y = view_.of.plans->value(view_.of.y_name, row);
  return {plot_.left() + view_.x.position(x) * plot_.width(),
          plot_.bottom() - view_.y.position(y) * plot_.height()};
}

void PlanScatter::layout(const QSizeF& size) {
  const QFontMetricsF metrics(font());
  double legend = metrics.horizontalAdvance("does not fit");
  if (const Column* column = view_.of.plans->find(view_.of.colour_name)) {
    legend =
        std::max(legend, std::min(size.width() * 0.25, metrics.horizontalAdvance(column->title)));
  }
  plot_ = plot_area(size, metrics, view_.y, legend + metrics.height() * 2.6, metrics.height());
}

std::int64_t PlanScatter::point_at(const QPointF& place) const {
  const bool known = is_current() && points_ && points_->state == state_ && points_->plot == plot_;
  return known ? points_->nearest(place) : -1;
}

PointsAsked PlanScatter::points_asked(double ratio) const {
  return {.plans = view_.of.plans,
          .rows = view_.of.rows,
          .x = view_.x,
          .y = view_.y,
          .x_name = view_.of.x_name,
          .y_name = view_.of.y_name,
          .categories = view_.categories,
          .plot = plot_,
          .ratio = ratio,
          .theme = &theme(),
          .state = state_};
}

std::vector<PlanScatter::Limit> PlanScatter::limits() const {
  std::vector<Limit> found;
  if (!view_.of.plans) return found;
  const Limits& limits = view_.of.plans->question.limits;
  const std::tuple<const char*, const char*, double, bool> kKnown[] = {
      {"time", "time_us", limits.time_us, true},
      {"prompt", "prompt_us", limits.prompt_us, true},
      {"tokens", "tokens_per_s", limits.tokens_per_s, false},
      {"memory", "memory_bytes", limits.memory_bytes, true},
      {"cost", "cost_per_mtoken", limits.cost_per_mtoken, true}};
  for (const bool across : {true, false}) {
    const QString& name = across ? view_.of.x_name : view_.of.y_name;
    for (const auto& [column, field, value, at_most] : kKnown) {
      if (name != column) continue;
      const Axis& axis = across ? view_.x : view_.y;
      // Without a limit its line waits at the end of the axis, to be dragged in.
      found.push_back({.field = QString("limits.") + field,
                       .value = value > 0 ? std::clamp(value, axis.low, axis.high)
                                : at_most ? axis.high
                                          : axis.low,
                       .across = across,
                       .at_most = at_most});
    }
    if (name == u"memory" && view_.of.plans->question.cluster.device.kind == DeviceKind::Cuda) {
      const auto held = static_cast<double>(view_.of.plans->question.cluster.device.memory_bytes);
      const Axis& axis = across ? view_.x : view_.y;
      if (held > axis.low && held < axis.high) {
        found.push_back({.field = "capacity", .value = held, .across = across, .fixed = true});
      }
    }
  }
  return found;
}

}  // namespace imhotep::gui
