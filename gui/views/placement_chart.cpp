#include "gui/views/placement_chart.h"

#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <cmath>

#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"

namespace imhotep::gui {
namespace {

constexpr double kGap = 3;

QColor mixed(const QColor& a, const QColor& b, double part) {
  const auto mix = [part](int x, int y) { return rounded(x + (y - x) * part); };
  return QColor(mix(a.red(), b.red()), mix(a.green(), b.green()), mix(a.blue(), b.blue()));
}

// Never so strong that what is written on it could not be read well.
constexpr double kStrongest = 0.5;

}  // namespace

QColor shade_of_experts(double part) {
  return mixed(mixed(theme().base, theme().series[0], 0.25),
               mixed(theme().base, theme().series[1], 0.42), part);
}

QColor shade_of_link(double part) {
  return mixed(theme().base, theme().series[0], kStrongest * part);
}

PlacementChart::PlacementChart(QWidget* parent) : Chart("Placement of experts", parent) {}

void PlacementChart::show_layer(std::shared_ptr<const Plan> plan, int moe_index) {
  plan_ = std::move(plan);
  moe_index_ = moe_index;
  placed_.reset();
  std::vector<QStringList> rows;
  if (plan_) {
    if (moe_index >= 0) placed_ = place_layer(*plan_, moe_index);
    exchanges_ = placed_ && std::any_of(placed_->ranks.begin(), placed_->ranks.end(),
                                        [](const RankLoad& load) {
                                          return load.bytes_inside + load.bytes_between > 0;
                                        });
    rank_ = std::clamp(rank_, 0, plan_->world - 1);
    for (int rank = 0; rank < plan_->world; ++rank) {
      QStringList row = {QString::number(rank), QString::number(rank / plan_->ranks_per_node)};
      if (placed_) {
        const RankLoad& load = placed_->ranks[static_cast<std::size_t>(rank)];
        row << QString("%1–%2").arg(load.first_expert).arg(load.first_expert + load.experts - 1)
            << QString("%1 of %2").arg(load.slice).arg(load.slices)
            << QString("%1 of %2").arg(load.replica).arg(load.replicas)
            << bytes_text(load.bytes_inside) << bytes_text(load.bytes_between);
      }
      rows.push_back(row);
    }
  }
  set_twin(
      {"rank", "node", "experts", "slice", "replica", "sent inside the node", "sent between nodes"},
      std::move(rows));
  announce_rank();
  refresh();
}

void PlacementChart::announce_rank() {
  announce(plan_ ? describe_rank(*plan_, placed_ ? &*placed_ : nullptr, rank_) : QString());
}

void PlacementChart::set_rank(int rank) {
  if (!plan_ || rank < 0 || rank >= plan_->world || rank == rank_) return;
  rank_ = rank;
  announce_rank();
  Q_EMIT rank_changed(rank);
  update();
}

QString PlacementChart::summary() const {
  if (!plan_) return "No plan is chosen.";
  return QString("%1 ranks on %2 nodes; ")
             .arg(plan_->world)
             .arg((plan_->world + plan_->ranks_per_node - 1) / plan_->ranks_per_node) +
         describe_rank(*plan_, placed_ ? &*placed_ : nullptr, rank_);
}

// The layout with the largest cells that fits.
void PlacementChart::layout(const QSizeF& size) {
  const double line = QFontMetricsF(font()).height();
  nodes_ = (plan_->world + plan_->ranks_per_node - 1) / plan_->ranks_per_node;
  const int per_node = std::min(plan_->world, plan_->ranks_per_node);
  const bool links = placed_ && nodes_ > 1 && !placed_->links.empty() && exchanges_;
  const double links_width = links ? std::min(size.width() * 0.34, size.height() * 0.8) : 0;
  area_ = QRectF(line * 0.6, line * 0.4, size.width() - line * 1.2 - links_width,
                 size.height() - line * 0.8);
  links_area_ = links ? QRectF(area_.right() + line * 1.2, area_.top(), links_width - line * 1.2,
                               area_.height())
                      : QRectF();
  const double title = line * 1.2, pad = 4;
  double best = 0;
  const double most = line * 5.5;
  for (int across = 1; across <= nodes_; ++across) {
    const int down = (nodes_ + across - 1) / across;
    for (int cells = 1; cells <= per_node; ++cells) {
      const int rows = (per_node + cells - 1) / cells;
      const double width = (area_.width() / across - 2 * pad - kGap) / cells;
      const double height = (area_.height() / down - title - 2 * pad - kGap) / rows;
      // Cells a little wider than high read best.
      const double score = std::min(std::min(width, most * 1.3), 1.3 * std::min(height, most)) *
                           (per_node % cells == 0 ? 1 : 0.75);
      if (score <= best) continue;
      best = score;
      nodes_across_ = across;
      cells_across_ = cells;
      cell_ =
          QSizeF(std::max(2.0, std::min(width, most * 1.3)), std::max(2.0, std::min(height, most)));
    }
  }
  const int rows = (per_node + cells_across_ - 1) / cells_across_;
  node_ = QSizeF(cell_.width() * cells_across_ + 2 * pad, cell_.height() * rows + title + 2 * pad);
}

QRectF PlacementChart::cell_of(int rank) const {
  const double title =
      node_.height() -
      cell_.height() *
          std::ceil(static_cast<double>(std::min(plan_->world, plan_->ranks_per_node)) /
                    cells_across_) -
      4;
  const int node = rank / plan_->ranks_per_node, local = rank % plan_->ranks_per_node;
  const QPointF corner(area_.left() + (node % nodes_across_) * (node_.width() + kGap * 2),
                       area_.top() + (node / nodes_across_) * (node_.height() + kGap));
  return QRectF(corner + QPointF(4 + (local % cells_across_) * cell_.width(),
                                 title + (local / cells_across_) * cell_.height()),
                cell_)
      .adjusted(1, 1, -1, -1);
}

int PlacementChart::rank_at(const QPointF& place) const {
  if (!plan_ || cell_.isEmpty()) return -1;
  for (int rank = 0; rank < plan_->world; ++rank) {
    if (cell_of(rank).contains(place)) return rank;
  }
  return -1;
}

void PlacementChart::paint_scene(QPainter& painter, const QSizeF& size) {
  if (!plan_) return draw_empty(painter, size, "Choose a plan to see where its experts sit.");
  layout(size);
  const QFontMetricsF metrics(painter.font());
  for (int node = 0; node < nodes_; ++node) {
    const QRectF first = cell_of(node * plan_->ranks_per_node);
    const QRectF box(first.left() - 5, first.top() - metrics.height() * 1.2, node_.width(),
                     node_.height());
    painter.setPen(QPen(theme().border, 1));
    painter.setBrush(theme().raised);
    painter.drawRoundedRect(box, 4, 4);
    painter.setPen(theme().muted);
    const QString title = box.width() > metrics.horizontalAdvance("node 00") + 8
                              ? QString("node %1").arg(node)
                              : QString::number(node);
    painter.drawText(QRectF(box.left() + 5, box.top(), box.width() - 8, metrics.height() * 1.2),
                     Qt::AlignVCenter, title);
  }
  for (int rank = 0; rank < plan_->world; ++rank) draw_cell(painter, rank);
  if (!links_area_.isNull()) draw_links(painter);
}

void PlacementChart::draw_cell(QPainter& painter, int rank) const {
  const QRectF cell = cell_of(rank);
  QColor fill = theme().base;
  QStringList lines = {QString::number(rank)};
  if (placed_) {
    const RankLoad& load = placed_->ranks[static_cast<std::size_t>(rank)];
    // Ranks with the same experts have the same shade.
    const double part = placed_->experts > load.experts ? static_cast<double>(load.first_expert) /
                                                              (placed_->experts - load.experts)
                                                        : 0.5;
    fill = shade_of_experts(part);
    lines << (load.experts == 1 ? QString("e%1").arg(load.first_expert)
                                : QString("e%1–%2")
                                      .arg(load.first_expert)
                                      .arg(load.first_expert + load.experts - 1));
    QStringList more;
    if (load.slices > 1) more << QString("s%1").arg(load.slice);
    if (load.replicas > 1) more << QString("r%1").arg(load.replica);
    if (!more.isEmpty()) lines << more.join(' ');
  }
  painter.setPen(QPen(theme().border, 0.8));
  painter.setBrush(fill);
  painter.drawRect(cell);
  const QFontMetricsF metrics(painter.font());
  painter.setPen(readable_on(fill));
  double width = 0;
  for (const QString& text : lines) width = std::max(width, metrics.horizontalAdvance(text));
  while (lines.size() > 1 && cell.height() < metrics.height() * count_of(lines)) lines.removeLast();
  if (width > cell.width() - 2 || cell.height() < metrics.height()) {
    // Only the number, if anything.
    if (metrics.horizontalAdvance(lines.front()) > cell.width() - 2 ||
        cell.height() < metrics.height() * 0.9) {
      return;
    }
    lines = {lines.front()};
  }
  painter.drawText(cell, Qt::AlignCenter, lines.join('\n'));
}

void PlacementChart::draw_links(QPainter& painter) const {
  const QFontMetricsF metrics(painter.font());
  const double line = metrics.height();
  const auto& links = placed_->links;
  double most = 0;
  for (int a = 0; a < nodes_; ++a) {
    for (int b = 0; b < nodes_; ++b) most = std::max(most, links[a][b]);
  }
  painter.setPen(theme().text);
  const QRectF room(links_area_.left(), links_area_.top(), links_area_.width(), line * 6);
  QRectF words;
  painter.drawText(room, Qt::AlignLeft | Qt::TextWordWrap,
                   "One dispatch of this layer,\nfrom node (down) to node (across)", &words);
  const double above = words.height() + line * 1.6;
  const double labels = metrics.horizontalAdvance(QString::number(nodes_)) + line * 0.5;
  const double side =
      std::min(links_area_.width() - labels, links_area_.height() - above - line * 3) / nodes_;
  if (side < 2) return;
  const QPointF corner(links_area_.left() + labels, links_area_.top() + above);
  const int every = std::max(1, static_cast<int>(std::ceil(line * 1.6 / side)));
  for (int a = 0; a < nodes_; ++a) {
    painter.setPen(theme().muted);
    if (a % every == 0) {
      painter.drawText(QRectF(links_area_.left(), corner.y() + a * side, labels - 5, side),
                       Qt::AlignRight | Qt::AlignVCenter | Qt::TextDontClip, QString::number(a));
      painter.drawText(QRectF(corner.x() + a * side, corner.y() - line * 1.2, side, line),
                       Qt::AlignCenter | Qt::TextDontClip, QString::number(a));
    }
    for (int b = 0; b < nodes_; ++b) {
      const QRectF box(corner + QPointF(b * side, a * side), QSizeF(side, side));
      const double part = most > 0 ? links[a][b] / most : 0;
      const QColor fill = shade_of_link(part);
      painter.fillRect(box.adjusted(0.5, 0.5, -0.5, -0.5), fill);
      const QString text = bytes_text(links[a][b]);
      if (metrics.horizontalAdvance(text) < side - 6) {
        painter.setPen(readable_on(fill));
        painter.drawText(box, Qt::AlignCenter, text);
      }
    }
  }
  const QRectF scale(corner.x(), corner.y() + side * nodes_ + line * 0.8,
                     std::min(side * nodes_, links_area_.width() - labels), line * 0.7);
  QLinearGradient gradient(scale.topLeft(), scale.topRight());
  gradient.setColorAt(0, theme().base);
  gradient.setColorAt(1, shade_of_link(1));
  painter.setPen(QPen(theme().border, 1));
  painter.setBrush(gradient);
  painter.drawRect(scale);
  painter.setPen(theme().muted);
  painter.drawText(QRectF(scale.left(), scale.bottom() + 2, scale.width(), line), Qt::AlignLeft,
                   "0");
  painter.drawText(QRectF(scale.left(), scale.bottom() + 2, scale.width(), line), Qt::AlignRight,
                   bytes_text(most));
}

void PlacementChart::paint_overlay(QPainter& painter, const QSizeF& /*size*/) {
  if (!plan_) return;
  // Each kind of group has its own frame: inner to outer, with its own dashes.
  const Qt::PenStyle dashes[kGroupKinds] = {Qt::SolidLine, Qt::DotLine, Qt::DashLine,
                                            Qt::DashDotLine, Qt::DashDotDotLine};
  for (int kind = 0; kind < kGroupKinds; ++kind) {
    const auto members = group_of(*plan_, moe_index_, static_cast<GroupKind>(kind), rank_);
    // A group of all ranks is told in words: framing every cell would show nothing.
    if (members.size() < 2 || count_of(members) == plan_->world) continue;
    painter.setBrush(Qt::NoBrush);
    const double in = std::min(2.0 * kind, cell_.height() / 2 - 2);
    if (in < 0) continue;
    painter.setPen(QPen(theme().series[(kind + 1) % 8], 1.8, dashes[kind]));
    for (const int member : members) {
      painter.drawRect(cell_of(member).adjusted(in, in, -in, -in));
    }
  }
  painter.setPen(QPen(theme().accent, 3.5));
  painter.setBrush(Qt::NoBrush);
  painter.drawRect(cell_of(rank_).adjusted(-1, -1, 1, 1));
}

void PlacementChart::mouseMoveEvent(QMouseEvent* event) {
  if (const int rank = rank_at(event->position()); rank >= 0) set_rank(rank);
}

void PlacementChart::keyPressEvent(QKeyEvent* event) {
  const int step = event->key() == Qt::Key_Left    ? -1
                   : event->key() == Qt::Key_Right ? 1
                   : event->key() == Qt::Key_Up    ? -cells_across_
                   : event->key() == Qt::Key_Down  ? cells_across_
                                                   : 0;
  if (step == 0 || !plan_) {
    QWidget::keyPressEvent(event);
    return;
  }
  set_rank(std::clamp(rank_ + step, 0, plan_->world - 1));
}

}  // namespace imhotep::gui
