// The command palette, and the sheet of shortcuts: both read the window's list of actions.

#include <QDialog>
#include <QHeaderView>
#include <QKeyEvent>
#include <QLineEdit>
#include <QListWidget>
#include <QPainter>
#include <QStyledItemDelegate>
#include <QVBoxLayout>
#include <algorithm>

#include "gui/app/main_window.h"
#include "gui/presenter/basics.h"
#include "gui/views/panel.h"

namespace imhotep::gui {
namespace {

QString text_of(const QAction& action) { return QString(action.text()).remove('&'); }

// All letters of the words in order: "exp svg" finds "Export view as picture" by its first part.
bool matches(const QString& text, const QString& typed) {
  for (const QString& word : typed.split(' ', Qt::SkipEmptyParts)) {
    if (!text.contains(word, Qt::CaseInsensitive)) return false;
  }
  return true;
}

constexpr const char* kBeforeKeys = "    ";

// Commands stand left and their keys right, in a column that the eye can follow.
class CommandDelegate : public QStyledItemDelegate {
 public:
  using QStyledItemDelegate::QStyledItemDelegate;
  void paint(QPainter* painter, const QStyleOptionViewItem& option,
             const QModelIndex& index) const override {
    QStyleOptionViewItem item = option;
    initStyleOption(&item, index);
    const QString keys = item.text.section(kBeforeKeys, 1);
    const QString command = item.text.section(kBeforeKeys, 0, 0);
    item.text.clear();
    const QStyle* style = item.widget->style();
    style->drawControl(QStyle::CE_ItemViewItem, &item, painter, item.widget);
    const bool chosen = item.state.testFlag(QStyle::State_Selected);
    for (const auto& [text, side] : {std::pair{command, Qt::AlignLeft}, {keys, Qt::AlignRight}}) {
      style->drawItemText(painter, item.rect.adjusted(8, 0, -8, 0), side | Qt::AlignVCenter,
                          item.palette, item.state.testFlag(QStyle::State_Enabled), text,
                          chosen ? QPalette::HighlightedText : QPalette::Text);
    }
  }
  QSize sizeHint(const QStyleOptionViewItem& option, const QModelIndex& index) const override {
    const QSize text = QStyledItemDelegate::sizeHint(option, index);
    const int line = option.fontMetrics.height();
    return {text.width() + line, line * 3 / 2};
  }
};

// As high as whole rows: the last one is never cut.
class WholeRows : public QListWidget {
 protected:
  void resizeEvent(QResizeEvent* event) override {
    const int row = sizeHintForRow(0), inside = height() - 2 * frameWidth();
    setViewportMargins(0, 0, 0, row > 0 && inside > row ? inside % row : 0);
    QListWidget::resizeEvent(event);
  }
};

}  // namespace

void show_palette(QWidget& window, const std::vector<QAction*>& actions) {
  auto* dialog = new QDialog(&window);
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  dialog->setWindowTitle("All commands");
  dialog->setObjectName("palette");
  auto* search = new QLineEdit;
  search->setPlaceholderText("Type what you want to do");
  search->setAccessibleName("Search commands");
  auto* list = new WholeRows;
  list->setAccessibleName("Commands");
  list->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  list->setItemDelegate(new CommandDelegate(list));
  const auto fill = [list, search, actions] {
    list->clear();
    for (QAction* action : actions) {
      if (!matches(text_of(*action), search->text())) continue;
      const QString keys = action->shortcut().toString(QKeySequence::NativeText);
      auto* item =
          new QListWidgetItem(text_of(*action) + (keys.isEmpty() ? "" : kBeforeKeys + keys), list);
      item->setData(Qt::UserRole, QVariant::fromValue(static_cast<QObject*>(action)));
      if (!action->isEnabled()) item->setFlags(Qt::NoItemFlags);
    }
    list->setCurrentRow(0);
  };
  const auto run = [dialog, list] {
    const QListWidgetItem* item = list->currentItem();
    auto* action = item == nullptr
                       ? nullptr
                       : qobject_cast<QAction*>(item->data(Qt::UserRole).value<QObject*>());
    dialog->accept();
    if (action != nullptr && action->isEnabled()) action->trigger();
  };
  QObject::connect(search, &QLineEdit::textChanged, list, fill);
  QObject::connect(search, &QLineEdit::returnPressed, dialog, run);
  QObject::connect(list, &QListWidget::itemActivated, dialog, run);
  auto* all = new QVBoxLayout(dialog);
  all->addWidget(search);
  all->addWidget(list);
  fill();
  // As wide as the longest command with its keys, so that nothing scrolls sideways.
  constexpr int kLeast = 520, kBeside = 60;
  dialog->resize(std::max(kLeast, list->sizeHintForColumn(0) + kBeside), 460);
  dialog->open();
  search->setFocus();
}

void show_shortcuts(QWidget& window, const std::vector<QAction*>& actions) {
  auto* dialog = new QDialog(&window);
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  dialog->setWindowTitle("Shortcuts");
  dialog->setObjectName("shortcuts");
  auto* model = new RowsModel(dialog);
  std::vector<QStringList> rows;
  for (const QAction* action : actions) {
    const QString keys = action->shortcut().toString(QKeySequence::NativeText);
    if (!keys.isEmpty()) rows.push_back({text_of(*action), keys});
  }
  for (const auto& [what, keys] :
       {std::pair{"Plan chart: along the front", "Left, Right, Home, End"},
        std::pair{"Timeline: zoom, move, fit", "W S, A D, F"},
        std::pair{"Placement: another rank", "arrow keys"}}) {
    rows.push_back({what, keys});
  }
  model->set({"command", "keys"}, std::move(rows));
  auto* table = new QTableView;
  prepare_table(*table, "Shortcuts");
  table->setModel(model);
  table->verticalHeader()->hide();
  table->resizeColumnsToContents();
  table->horizontalHeader()->setStretchLastSection(true);
  auto* all = new QVBoxLayout(dialog);
  all->addWidget(table);
  dialog->resize(560, 620);
  dialog->open();
}

}  // namespace imhotep::gui
