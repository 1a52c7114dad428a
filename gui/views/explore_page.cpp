#include "gui/views/explore_page.h"

#include <QClipboard>
#include <QDialog>
#include <QDialogButtonBox>
#include <QGuiApplication>
#include <QHeaderView>
#include <QListWidget>
#include <QMenu>
#include <QSplitter>
#include <QVBoxLayout>
#include <numeric>

#include "core/base/error.h"
#include "gui/presenter/basics.h"
#include "gui/views/flow_layout.h"

namespace imhotep::gui {

ExplorePage::ExplorePage(Explorer& explorer, QWidget* parent)
    : QWidget(parent), explorer_(explorer) {
  auto* split = new QSplitter(Qt::Vertical);
  split->addWidget(build_chart());
  split->addWidget(build_table());
  split->setStretchFactor(0, 3);
  split->setStretchFactor(1, 2);
  split->setSizes({460, 300});
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(0, 0, 0, 0);
  all->addWidget(split);
  connect(&explorer_, &Explorer::plans_changed, this, &ExplorePage::refresh_plans);
  connect(&explorer_, &Explorer::selection_changed, this, &ExplorePage::refresh_selection);
  connect(&table_, &PlanTable::arranging, this, &ExplorePage::refresh_count);
  connect(&table_, &PlanTable::arranged, this, &ExplorePage::accept_arrangement);
}

QWidget* ExplorePage::build_chart() {
  scatter_ = new PlanScatter;
  panel_ = new Panel("Plans", scatter_);
  x_ = new QComboBox;
  y_ = new QComboBox;
  colour_ = new QComboBox;
  const std::pair<const char*, QComboBox*> kBoxes[] = {
      {"&Across", x_}, {"&Up", y_}, {"Colou&r", colour_}};
  for (const auto& [text, box] : kBoxes) {
    box->setSizeAdjustPolicy(QComboBox::AdjustToContents);
    panel_->add_control(label_for(text, box), box);
    connect(box, &QComboBox::activated, this, [this] { scatter_->set_axes(x(), y(), colour()); });
  }
  x_->setAccessibleName("Metric across");
  y_->setAccessibleName("Metric up");
  colour_->setAccessibleName("Colour and shape by");
  logarithmic_ = new QCheckBox("&Logarithmic");
  logarithmic_->setChecked(true);
  logarithmic_->setToolTip("Where values span more than a factor of eight");
  connect(logarithmic_, &QCheckBox::toggled, scatter_, &PlanScatter::set_logarithmic);
  panel_->add_control(logarithmic_);
  connect(scatter_, &PlanScatter::picked, &explorer_, &Explorer::select);
  connect(scatter_, &PlanScatter::filter_wanted, this, &ExplorePage::set_filter);
  connect(scatter_, &PlanScatter::limit_moved, this, [this](const QString& field, double value) {
    explorer_.edit(field, QString::number(value, 'g', 4));
  });
  return panel_;
}

QWidget* ExplorePage::build_table() {
  table_panel_ = new QWidget;
  auto* all = new QVBoxLayout(table_panel_);
  all->setContentsMargins(8, 4, 8, 8);
  auto* top = new FlowLayout;
  filter_ = new QLineEdit;
  filter_->setPlaceholderText("tensor<=4 && memory<70GB");
  filter_->setClearButtonEnabled(true);
  filter_->setMinimumWidth(filter_->fontMetrics().averageCharWidth() * 18);
  filter_->setAccessibleName("Filter of plans");
  filter_->setAccessibleDescription("An expression over columns, such as tensor<=4 && memory<70GB");
  connect(filter_, &QLineEdit::textChanged, this, &ExplorePage::apply_filter);
  top->addWidget(side_by_side(label_for("&Filter", filter_), filter_));
  counted_ = new QLabel;
  counted_->setObjectName("muted");
  top->addWidget(counted_);
  auto* differing = new QCheckBox("Only &differing columns");
  connect(differing, &QCheckBox::toggled, this, [this](bool only) {
    table_.set_only_differing(only);
    resize_columns();
    refresh_selection();
  });
  top->addWidget(differing);
  auto* columns = new QToolButton;
  columns->setText("Columns…");
  columns->setAccessibleName("Choose columns");
  connect(columns, &QToolButton::clicked, this, &ExplorePage::choose_columns);
  top->add_trailing(columns);
  auto* copies = new QToolButton;
  copies->setText("Copy ▾");
  copies->setAccessibleName("Copy plans as CSV or Markdown");
  copies->setPopupMode(QToolButton::InstantPopup);
  auto* formats = new QMenu(copies);
  formats->addAction("&CSV", this, [this] { copy(CopyFormat::Csv); });
  formats->addAction("&Markdown", this, [this] { copy(CopyFormat::Markdown); });
  copies->setMenu(formats);
  top->add_trailing(copies);
  all->addLayout(top);
  problem_ = new QLabel;
  problem_->setWordWrap(true);
  problem_->setAccessibleName("What is wrong with the filter");
  problem_->hide();
  all->addWidget(problem_);
  view_ = new QTableView;
  prepare_table(*view_, "Plans");
  view_->setModel(&table_);
  view_->installEventFilter(this);
  view_->setSortingEnabled(true);
  view_->horizontalHeader()->setSortIndicator(-1, Qt::AscendingOrder);
  connect(view_->selectionModel(), &QItemSelectionModel::currentRowChanged, this,
          [this](const QModelIndex& current) {
            const std::int64_t plan = table_.plan_at(current.row());
            if (current.isValid() && plan >= 0) explorer_.select(plan);
          });
  all->addWidget(view_, 1);
  return table_panel_;
}

void ExplorePage::fill_choices() {
  const Plans& plans = explorer_.plans();
  for (QComboBox* box : {x_, y_, colour_}) {
    const QString before = box->currentData().toString();
    const QString usual = box == x_ ? "time" : box == y_ ? "memory" : "tensor";
    box->clear();
    for (const Column& column : plans->columns) {
      box->addItem(QString(column.name).replace('_', ' '), column.name);
      box->setItemData(box->count() - 1, column.title, Qt::ToolTipRole);
    }
    int index = box->findData(before.isEmpty() ? usual : before);
    if (index < 0) index = box->findData(usual);
    box->setCurrentIndex(std::max(0, index));
  }
}

void ExplorePage::refresh_plans() {
  table_.set_plans(explorer_.plans());
  fill_choices();
  if (filter_->text() != table_.filter()) {
    const QSignalBlocker quiet(filter_);
    filter_->setText(table_.filter());
  }
  resize_columns();
  scatter_->set_asked({.plans = explorer_.plans(),
                       .rows = table_.passing(),
                       .x_name = x(),
                       .y_name = y(),
                       .colour_name = colour(),
                       .logarithmic = logarithmic_->isChecked()});
  const Plans& plans = explorer_.plans();
  panel_->set_title(QString("%L1 plans in %2 s").arg(plans->size()).arg(plans->seconds, 0, 'f', 2));
  refresh_count();
}

void ExplorePage::refresh_count() {
  const std::int64_t all = explorer_.plans() ? explorer_.plans()->size() : 0;
  counted_->setText(table_.is_arranging()
                        ? QString("arranging %L1 plans …").arg(all)
                        : QString("%L1 of %L2").arg(table_.passing()->size()).arg(all));
}

void ExplorePage::accept_arrangement() {
  if (scatter_->plans() != table_.plans()) return;  // they will be shown as a whole
  scatter_->show_rows(table_.passing());
  refresh_count();
  refresh_selection();
}

void ExplorePage::resize_columns() {
  // From the header and the first row: measuring all rows would take seconds.
  const QFontMetrics metrics(view_->font());
  for (int c = 0; c < table_.columnCount(); ++c) {
    int width = metrics.horizontalAdvance(
                    table_.headerData(c, Qt::Horizontal, Qt::DisplayRole).toString()) +
                metrics.height();
    for (int r = 0; r < std::min(20, table_.rowCount()); ++r) {
      width = std::max(width, metrics.horizontalAdvance(
                                  table_.data(table_.index(r, c), Qt::DisplayRole).toString()));
    }
    view_->setColumnWidth(c, width + metrics.height() * 3 / 2);
  }
}

bool ExplorePage::eventFilter(QObject* watched, QEvent* event) {
  if (watched == view_ && event->type() == QEvent::FontChange) resize_columns();
  return QWidget::eventFilter(watched, event);
}

void ExplorePage::refresh_selection() {
  const std::int64_t plan = explorer_.selected();
  scatter_->set_selected(plan);
  const int row = table_.row_of_plan(plan);
  const QSignalBlocker quiet(view_->selectionModel());
  if (row < 0) {
    view_->clearSelection();
  } else {
    view_->setCurrentIndex(table_.index(row, std::max(0, view_->currentIndex().column())));
    view_->selectRow(row);
    view_->scrollTo(table_.index(row, 0), QAbstractItemView::EnsureVisible);
  }
  view_->viewport()->update();
}

void ExplorePage::set_filter(const QString& text) { filter_->setText(text); }

void ExplorePage::set_axes(const QString& x, const QString& y, const QString& colour) {
  for (const auto& [box, name] : {std::pair{x_, x}, std::pair{y_, y}, std::pair{colour_, colour}}) {
    const int index = box->findData(name);
    if (index >= 0) box->setCurrentIndex(index);
  }
  scatter_->set_axes(this->x(), this->y(), this->colour());
}

void ExplorePage::apply_filter() {
  bool wrong = false;
  try {
    table_.set_filter(filter_->text());
    problem_->hide();
  } catch (const Error& error) {
    wrong = true;
    problem_->setText("⚠ " + qt(error.what()));
    problem_->show();
  }
  filter_->setProperty("wrong", wrong);
  filter_->style()->polish(filter_);
}

void ExplorePage::focus_filter() {
  filter_->setFocus(Qt::ShortcutFocusReason);
  filter_->selectAll();
}

void ExplorePage::choose_columns() {
  if (!explorer_.plans()) return;
  QDialog dialog(this);
  dialog.setWindowTitle("Columns");
  auto* list = new QListWidget;
  list->setAccessibleName("Columns shown");
  for (const Column& column : explorer_.plans()->columns) {
    auto* item = new QListWidgetItem(column.title, list);
    item->setData(Qt::UserRole, column.name);
    item->setCheckState(table_.hidden().contains(column.name) ? Qt::Unchecked : Qt::Checked);
  }
  auto* buttons = new QDialogButtonBox(QDialogButtonBox::Ok | QDialogButtonBox::Cancel);
  connect(buttons, &QDialogButtonBox::accepted, &dialog, &QDialog::accept);
  connect(buttons, &QDialogButtonBox::rejected, &dialog, &QDialog::reject);
  auto* all = new QVBoxLayout(&dialog);
  all->addWidget(list);
  all->addWidget(buttons);
  dialog.resize(320, 420);
  if (dialog.exec() != QDialog::Accepted) return;
  QStringList hidden;
  for (int i = 0; i < list->count(); ++i) {
    if (list->item(i)->checkState() == Qt::Unchecked) {
      hidden << list->item(i)->data(Qt::UserRole).toString();
    }
  }
  table_.set_hidden(hidden);
  resize_columns();
  refresh_selection();
}

void ExplorePage::copy(CopyFormat format) {
  std::vector<int> rows;
  for (const QModelIndex& index : view_->selectionModel()->selectedRows()) {
    rows.push_back(index.row());
  }
  if (rows.size() < 2) rows.clear();
  constexpr int kMostRows = 100'000;
  if (rows.empty() && table_.rowCount() > kMostRows) {
    rows.resize(kMostRows);
    std::iota(rows.begin(), rows.end(), 0);
    Q_EMIT explorer_.told(
        QString("The first %L1 of %L2 plans are copied.").arg(kMostRows).arg(table_.rowCount()),
        false);
  }
  constexpr std::size_t kAtOnce = 1000;
  const PlanTable::Copy wanted = table_.copied(rows);
  const auto put = [](const QString& text) { QGuiApplication::clipboard()->setText(text); };
  copying_.cancel();
  if (wanted.rows.size() <= kAtOnce) return put(copy_text(wanted, format));
  copying_.start([wanted, format](const Stop& /*stop*/) { return copy_text(wanted, format); }, put);
}

}  // namespace imhotep::gui
