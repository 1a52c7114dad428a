#include "gui/views/detail_pages.h"

#include <QCheckBox>
#include <QVBoxLayout>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

QLabel* wrapped(const QString& name) {
  auto* label = new QLabel;
  label->setWordWrap(true);
  label->setAccessibleName(name);
  label->setContentsMargins(10, 0, 10, 8);
  return label;
}

// "0–15, 32" for long lists of ranks.
QString ranges(const std::vector<int>& ranks) {
  QStringList parts;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t j = i;
    while (j + 1 < ranks.size() && ranks[j + 1] == ranks[j] + 1) ++j;
    parts << (j == i ? QString::number(ranks[i]) : QString("%1–%2").arg(ranks[i]).arg(ranks[j]));
    i = j + 1;
  }
  constexpr int kMostParts = 12;
  if (parts.size() > kMostParts) {
    parts = parts.mid(0, kMostParts) << QString("… (%1 ranks)").arg(ranks.size());
  }
  return parts.join(", ");
}

}  // namespace

BreakdownPage::BreakdownPage(Explorer& explorer, QWidget* parent)
    : QWidget(parent),
      explorer_(explorer),
      chart_(new BreakdownChart),
      panel_(new Panel("Where time and memory go", chart_, true)),
      by_(new QComboBox),
      summary_(wrapped("Summary of the breakdown")) {
  by_->addItems({"class of operation", "layer", "source of the number"});
  panel_->add_control(label_for("&By", by_), by_);
  connect(by_, &QComboBox::activated, this, &BreakdownPage::refresh);
  connect(&explorer, &Explorer::details_changed, this, &BreakdownPage::refresh);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(0, 0, 0, 0);
  all->addWidget(panel_, 1);
  all->addWidget(summary_);
}

void BreakdownPage::set_by(BreakdownBy by) {
  by_->setCurrentIndex(static_cast<int>(by));
  refresh();
}

void BreakdownPage::refresh() {
  const Details& detail = explorer_.detail();
  chart_->show_detail(detail, static_cast<BreakdownBy>(by_->currentIndex()));
  QString text = detail ? breakdown_summary(*detail) : QString();
  if (detail) {
    for (const std::string& reason : detail->verdict.reasons)
      text += " Does not fit: " + qt(reason) + ".";
  }
  summary_->setText(text);
}

TimelinePage::TimelinePage(Explorer& explorer, QWidget* parent)
    : QWidget(parent),
      chart_(new TimelineChart),
      panel_(new Panel("Streams of rank 0", chart_)),
      measured_(wrapped("Measured span")) {
  auto* critical = new QCheckBox("Only the &critical path");
  connect(critical, &QCheckBox::toggled, chart_, &TimelineChart::set_critical);
  panel_->add_control(critical);
  const std::tuple<const char*, const char*, std::function<void()>> kButtons[] = {
      {"Zoom in", "W", [this] { chart_->zoom(1.5, (chart_->from_us() + chart_->to_us()) / 2); }},
      {"Zoom out", "S",
       [this] { chart_->zoom(1 / 1.5, (chart_->from_us() + chart_->to_us()) / 2); }},
      {"Fit", "F", [this] { chart_->fit(); }}};
  for (const auto& [text, key, act] : kButtons) {
    auto* button = new QToolButton;
    button->setText(text);
    button->setAccessibleName(QString("%1 the timeline").arg(text));
    button->setToolTip(QString("%1 (%2 in the chart)").arg(text, key));
    connect(button, &QToolButton::clicked, this, act);
    panel_->add_control(button);
  }
  const QString hint = "W and S zoom, A and D move, F fits, a drag measures a span.";
  measured_->setText(hint);
  connect(chart_, &TimelineChart::measured, measured_, &QLabel::setText);
  connect(&explorer, &Explorer::details_changed, this, [this, &explorer, hint] {
    chart_->show_timing(explorer.detail() ? explorer.detail()->timing : Timing{});
    measured_->setText(hint);
  });
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(0, 0, 0, 0);
  all->addWidget(panel_, 1);
  all->addWidget(measured_);
}

PlacementPage::PlacementPage(Explorer& explorer, QWidget* parent)
    : QWidget(parent),
      explorer_(explorer),
      chart_(new PlacementChart),
      panel_(new Panel("Where experts sit", chart_)),
      layer_(new QSlider(Qt::Horizontal)),
      layer_text_(new QLabel),
      rank_text_(wrapped("The chosen rank")),
      groups_(wrapped("Groups of the chosen rank")) {
  layer_->setMinimumWidth(180);
  layer_->setTickPosition(QSlider::TicksBelow);
  layer_->setTickInterval(1);
  layer_->setAccessibleName("MoE layer");
  layer_->setSizePolicy(QSizePolicy::Preferred, QSizePolicy::Fixed);
  panel_->add_control(label_for("&Layer", layer_), layer_);
  panel_->add_control(layer_text_);
  groups_->setObjectName("muted");
  connect(layer_, &QSlider::valueChanged, this, &PlacementPage::refresh);
  connect(chart_, &PlacementChart::rank_changed, this, &PlacementPage::describe);
  connect(&explorer, &Explorer::details_changed, this, &PlacementPage::refresh);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(0, 0, 0, 0);
  all->addWidget(panel_, 1);
  all->addWidget(rank_text_);
  all->addWidget(groups_);
}

void PlacementPage::set_layer(int moe_index) { layer_->setValue(moe_index); }

void PlacementPage::refresh() {
  const Details& detail = explorer_.detail();
  plan_ = detail ? std::make_shared<const Plan>(detail->plan) : nullptr;
  const int layers = plan_ ? count_of(plan_->moe_layers) : 0;
  const QSignalBlocker quiet(layer_);
  layer_->setRange(0, std::max(0, layers - 1));
  layer_->setEnabled(layers > 1);
  const int index = layers == 0 ? -1 : layer_->value();
  chart_->show_layer(plan_, index);
  layer_text_->setText(index < 0
                           ? QString("no MoE layers")
                           : QString("block %1, %2 experts")
                                 .arg(plan_->moe_layers[static_cast<std::size_t>(index)].layer)
                                 .arg(plan_->moe_layers[static_cast<std::size_t>(index)].experts));
  describe();
}

void PlacementPage::describe() {
  if (!plan_) {
    rank_text_->clear();
    groups_->clear();
    return;
  }
  const int index = plan_->moe_layers.empty() ? -1 : layer_->value();
  std::optional<LayerPlacement> placed;
  if (index >= 0) placed = place_layer(*plan_, index);
  rank_text_->setText(describe_rank(*plan_, placed ? &*placed : nullptr, chart_->rank()));
  QStringList groups;
  constexpr const char* kFrames[kGroupKinds] = {"solid", "dotted", "dashed", "dash-dot",
                                                "dash-dot-dot"};
  for (int kind = 0; kind < kGroupKinds; ++kind) {
    const auto members = group_of(*plan_, index, static_cast<GroupKind>(kind), chart_->rank());
    if (members.size() < 2) continue;
    const bool all = count_of(members) == plan_->world;
    groups << QString("%1 (%2): %3")
                  .arg(group_name(static_cast<GroupKind>(kind)), all ? "all ranks" : kFrames[kind],
                       ranges(members));
  }
  groups_->setText(groups.isEmpty() ? QString("Works alone.") : "Groups: " + groups.join("; "));
}

}  // namespace imhotep::gui
