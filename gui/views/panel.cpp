#include "gui/views/panel.h"

#include <QEvent>
#include <QFileDialog>
#include <QHeaderView>
#include <QMessageBox>
#include <QScrollArea>
#include <QVBoxLayout>

#include "core/base/error.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {

QLabel* label_for(const QString& text, QWidget* buddy) {
  auto* label = new QLabel(text);
  label->setBuddy(buddy);
  if (buddy->accessibleName().isEmpty()) buddy->setAccessibleName(QString(text).remove('&'));
  return label;
}

namespace {

// Keeps rows as high as the text while it grows.
class RowHeights : public QObject {
 public:
  explicit RowHeights(QTableView& table) : QObject(&table), table_(table) { fit(); }
  bool eventFilter(QObject* watched, QEvent* event) override {
    if (event->type() == QEvent::FontChange) fit();
    return QObject::eventFilter(watched, event);
  }

 private:
  void fit() {
    const int line = table_.fontMetrics().height();
    table_.verticalHeader()->setDefaultSectionSize(line + line / 2);
  }
  QTableView& table_;
};

}  // namespace

void prepare_table(QTableView& table, const QString& name) {
  table.setAccessibleName(name);
  table.setObjectName(name);
  table.setAlternatingRowColors(true);
  table.setSelectionBehavior(QAbstractItemView::SelectRows);
  table.setWordWrap(false);
  table.setTabKeyNavigation(false);
  table.setHorizontalScrollMode(QAbstractItemView::ScrollPerPixel);
  table.installEventFilter(new RowHeights(table));
  table.verticalHeader()->setSectionResizeMode(QHeaderView::Fixed);
  table.verticalHeader()->setAccessibleName(name + ", row numbers");
  table.horizontalHeader()->setAccessibleName(name + ", columns");
  table.horizontalHeader()->setHighlightSections(false);
  table.setCornerButtonEnabled(false);
}

Panel::Panel(const QString& title, Chart* chart, bool scrolls, QWidget* parent)
    : QWidget(parent),
      chart_(chart),
      title_(new QLabel(title)),
      top_(new FlowLayout),
      stack_(new QStackedWidget),
      table_(new QTableView),
      table_button_(new QToolButton) {
  title_->setObjectName("title");
  top_->addWidget(title_);
  table_button_->setText("As table");
  table_button_->setCheckable(true);
  table_button_->setAccessibleName("Show " + chart->accessibleName() + " as a table");
  table_button_->setToolTip(table_button_->accessibleName());
  connect(table_button_, &QToolButton::toggled, this, &Panel::show_table);
  auto* export_button = new QToolButton;
  export_button->setText("Export…");
  export_button->setAccessibleName("Export " + chart->accessibleName());
  export_button->setToolTip("As SVG, PNG or PDF");
  connect(export_button, &QToolButton::clicked, this, &Panel::ask_export);
  top_->add_trailing(table_button_);
  top_->add_trailing(export_button);
  prepare_table(*table_, chart->accessibleName() + ", as a table");
  table_->setModel(chart->twin());
  table_->horizontalHeader()->setStretchLastSection(true);
  connect(chart->twin(), &QAbstractItemModel::modelReset, table_, [this] {
    constexpr int kMostMeasured = 300;
    if (chart_->twin()->rowCount() <= kMostMeasured) table_->resizeColumnsToContents();
  });
  if (scrolls) {
    auto* area = new QScrollArea;
    area->setWidget(chart);
    area->setWidgetResizable(true);
    area->setFrameShape(QFrame::NoFrame);
    area->setFocusPolicy(Qt::NoFocus);
    stack_->addWidget(area);
  } else {
    stack_->addWidget(chart);
  }
  stack_->addWidget(table_);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(8, 6, 8, 8);
  all->addLayout(top_);
  all->addWidget(stack_, 1);
}

void Panel::add_control(QWidget* control) { top_->addWidget(control); }

void Panel::add_control(QLabel* label, QWidget* control) {
  add_control(side_by_side(label, control));
}

void Panel::set_title(const QString& title) { title_->setText(title); }

void Panel::show_table(bool table) {
  stack_->setCurrentIndex(table ? 1 : 0);
  const QSignalBlocker quiet(table_button_);
  table_button_->setChecked(table);
}

void Panel::ask_export() { export_with_dialog(*chart_); }

void export_with_dialog(QWidget& widget) {
  QString name = widget.accessibleName().toLower();
  name.replace(' ', '-');
  const QString file = QFileDialog::getSaveFileName(widget.window(), "Export as a picture",
                                                    name + ".svg", "Pictures (*.svg *.png *.pdf)");
  if (file.isEmpty()) return;
  try {
    export_widget(widget, file, 2);
  } catch (const Error& error) {
    QMessageBox::warning(widget.window(), "Export", qt(error.what()));
  }
}

}  // namespace imhotep::gui
