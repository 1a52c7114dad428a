#include "gui/views/flow_layout.h"

#include <QHBoxLayout>
#include <QWidget>
#include <algorithm>
#include <utility>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

bool expands(const QLayoutItem& item) { return (item.expandingDirections() & Qt::Horizontal) != 0; }

int width_of(const QLayoutItem& item) {
  return expands(item) ? item.minimumSize().width() : item.sizeHint().width();
}

}  // namespace

FlowLayout::~FlowLayout() {
  for (QLayoutItem* item : items_) delete item;
}

void FlowLayout::addItem(QLayoutItem* item) { items_.insert(items_.end() - trailing_, item); }

void FlowLayout::add_trailing(QWidget* widget) {
  addChildWidget(widget);
  items_.push_back(new QWidgetItem(widget));
  ++trailing_;
}

int FlowLayout::count() const { return count_of(items_); }

QLayoutItem* FlowLayout::itemAt(int index) const {
  return index >= 0 && index < count() ? items_[static_cast<std::size_t>(index)] : nullptr;
}

QLayoutItem* FlowLayout::takeAt(int index) {
  QLayoutItem* item = itemAt(index);
  if (item == nullptr) return nullptr;
  if (index >= count() - trailing_) --trailing_;
  items_.erase(items_.begin() + index);
  return item;
}

int FlowLayout::gap() const { return spacing() >= 0 ? spacing() : 6; }

std::vector<FlowLayout::Line> FlowLayout::lines(int width) const {
  std::vector<Line> found;
  for (int i = 0; i < count(); ++i) {
    const QLayoutItem& item = *itemAt(i);
    const int own = item.isEmpty() ? 0 : width_of(item);
    if (found.empty() ||
        (own > 0 && found.back().width > 0 && found.back().width + gap() + own > width)) {
      found.push_back({.first = i});
    }
    Line& line = found.back();
    line.end = i + 1;
    if (own == 0) continue;
    line.width += (line.width > 0 ? gap() : 0) + own;
    line.height = std::max(line.height, item.sizeHint().height());
  }
  return found;
}

int FlowLayout::heightForWidth(int width) const {
  const QMargins around = contentsMargins();
  int height = around.top() + around.bottom();
  for (const Line& line : lines(width - around.left() - around.right())) {
    if (line.first > 0) height += gap();
    height += line.height;
  }
  return height;
}

QSize FlowLayout::sizeHint() const {
  QSize size(0, 0);
  for (const QLayoutItem* item : items_) {
    if (item->isEmpty()) continue;
    const QSize own = item->sizeHint();
    size = {size.width() + (size.width() > 0 ? gap() : 0) + own.width(),
            std::max(size.height(), own.height())};
  }
  return size.grownBy(contentsMargins());
}

QSize FlowLayout::minimumSize() const {
  QSize size(0, 0);
  for (const QLayoutItem* item : items_) {
    if (!item->isEmpty()) size = size.expandedTo({width_of(*item), item->sizeHint().height()});
  }
  return size.grownBy(contentsMargins());
}

void FlowLayout::setGeometry(const QRect& room) {
  QLayout::setGeometry(room);
  const QRect inside = room.marginsRemoved(contentsMargins());
  int top = inside.top();
  for (const Line& line : lines(inside.width())) {
    place(line, {inside.left(), top, inside.width(), line.height});
    top += line.height + gap();
  }
}

void FlowLayout::place(const Line& line, const QRect& room) {
  int growing = 0;
  for (int i = line.first; i < line.end; ++i) growing += expands(*itemAt(i)) ? 1 : 0;
  const int pushed = growing > 0 ? line.end : std::max(count() - trailing_, line.first);
  int left = room.left(), spare = std::max(0, room.width() - line.width);
  for (int i = line.first; i < line.end; ++i) {
    QLayoutItem& item = *itemAt(i);
    if (item.isEmpty()) continue;
    if (i == pushed) left += std::exchange(spare, 0);
    const int share = expands(item) ? spare / growing-- : 0;
    spare -= share;
    const int width = width_of(item) + share;
    const int height = std::min(room.height(), item.sizeHint().height());
    item.setGeometry(
        {left, room.top() + (room.height() - height) / 2, std::min(width, room.width()), height});
    left += width + gap();
  }
}

QWidget* side_by_side(QWidget* first, QWidget* second) {
  auto* both = new QWidget;
  auto* row = new QHBoxLayout(both);
  row->setContentsMargins(0, 0, 0, 0);
  row->addWidget(first);
  row->addWidget(second, 1);
  both->setSizePolicy(second->sizePolicy());
  return both;
}

}  // namespace imhotep::gui
