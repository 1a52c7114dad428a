#include "gui/views/compare_page.h"

#include <QHeaderView>
#include <QPushButton>
#include <QScrollArea>
#include <QSplitter>
#include <QTimer>
#include <QVBoxLayout>

#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"
#include "gui/views/flow_layout.h"

namespace imhotep::gui {
namespace {

QLabel* words(const QString& name) {
  auto* label = new QLabel;
  label->setWordWrap(true);
  label->setAccessibleName(name);
  label->setTextInteractionFlags(Qt::TextSelectableByMouse);
  return label;
}

// Two plans differ in words that may be wider than a column: such rows get a second line.
void fit_rows(QTableView& table) {
  const QFontMetrics metrics = table.fontMetrics();
  const QAbstractItemModel& model = *table.model();
  for (int row = 0; row < model.rowCount(); ++row) {
    int height = metrics.height() + metrics.height() / 2;
    for (int column = 0; column < model.columnCount(); ++column) {
      const QString text = model.index(row, column).data().toString();
      if (metrics.horizontalAdvance(text) + metrics.height() <= table.columnWidth(column)) continue;
      height = 2 * metrics.height() + metrics.height() / 2;
    }
    table.setRowHeight(row, height);
  }
}

// `model_is_narrow`: few columns, which share the width and never scroll sideways.
QTableView* table_of(RowsModel& model, const QString& name, bool model_is_narrow) {
  auto* table = new QTableView;
  prepare_table(*table, name);
  table->setModel(&model);
  table->horizontalHeader()->setStretchLastSection(true);
  table->verticalHeader()->hide();
  table->setWordWrap(true);
  if (model_is_narrow) table->horizontalHeader()->setSectionResizeMode(QHeaderView::Stretch);
  QObject::connect(table->horizontalHeader(), &QHeaderView::sectionResized, table,
                   [table] { fit_rows(*table); });
  QObject::connect(&model, &QAbstractItemModel::modelReset, table, [table] {
    table->resizeColumnsToContents();
    // Once it is laid out: only then is known which columns are too narrow.
    QTimer::singleShot(0, table, [table] {
      table->horizontalHeader()->setStretchLastSection(false);
      table->horizontalHeader()->setStretchLastSection(true);
      fit_rows(*table);
    });
  });
  return table;
}

}  // namespace

ComparePage::ComparePage(Explorer& explorer, QWidget* parent)
    : QWidget(parent), explorer_(explorer), tabs_(new QTabWidget) {
  tabs_->addTab(build_plans(), "Two &plans");
  tabs_->addTab(build_measured(), "Predicted and &measured");
  tabs_->setAccessibleName("Comparisons");
  tabs_->tabBar()->setAccessibleName("What is compared");
  tabs_->setDocumentMode(true);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(8, 6, 8, 8);
  all->addWidget(tabs_);
  connect(&explorer_, &Explorer::details_changed, this, &ComparePage::refresh);
  connect(&explorer_, &Explorer::reference_changed, this, &ComparePage::refresh);
  refresh();
}

void ComparePage::show_measured(bool measured) { tabs_->setCurrentIndex(measured ? 1 : 0); }

QWidget* ComparePage::build_plans() {
  auto* page = new QWidget;
  auto* all = new QVBoxLayout(page);
  auto* area = new QScrollArea;  // for small windows and large texts
  area->setWidget(page);
  area->setWidgetResizable(true);
  area->setFrameShape(QFrame::NoFrame);
  area->setFocusPolicy(Qt::NoFocus);
  area->setObjectName("page");
  verdict_ = words("Which plan is faster");
  verdict_->setObjectName("title");
  all->addWidget(verdict_);
  auto* top = new FlowLayout;
  auto* pin = new QPushButton("Make the chosen plan &A");
  pin->setToolTip("The reference that other plans are compared with");
  connect(pin, &QPushButton::clicked, &explorer_, [this] { explorer_.set_reference(true); });
  auto* best = new QPushButton("Make the &best plan A");
  connect(best, &QPushButton::clicked, &explorer_, [this] { explorer_.set_reference(false); });
  top->addWidget(pin);
  top->addWidget(best);
  all->addLayout(top);
  reasons_ = words("Why");
  all->addWidget(reasons_);
  deltas_ = new DeltaChart;
  auto* split = new QSplitter(Qt::Horizontal);
  split->addWidget(table_of(differences_, "Differences between the plans", true));
  split->addWidget(new Panel("Where the time differs", deltas_));
  split->setStretchFactor(0, 1);
  split->setStretchFactor(1, 1);
  split->setSizes({560, 440});
  all->addWidget(split, 1);
  return area;
}

QWidget* ComparePage::build_measured() {
  auto* page = new QWidget;
  auto* all = new QVBoxLayout(page);
  measured_verdict_ = words("How good the prediction was");
  measured_verdict_->setObjectName("title");
  all->addWidget(measured_verdict_);
  scatter_ = new MeasuredPlot;
  auto* split = new QSplitter(Qt::Vertical);
  split->addWidget(scatter_);
  split->addWidget(table_of(measured_, "Predicted and measured, by operation", false));
  split->setStretchFactor(0, 3);
  split->setStretchFactor(1, 2);
  split->setSizes({600, 400});  // the table has six columns and needs the width
  all->addWidget(split, 1);
  return page;
}

void ComparePage::refresh() {
  const Details &a = explorer_.reference(), &b = explorer_.detail();
  Comparison compared;
  if (a && b) compared = compare_plans(*a, *b);
  verdict_->setText(a && b ? compared.verdict
                           : QString("Choose a plan to compare with the best one."));
  reasons_->setText(compared.reasons.isEmpty() ? QString() : "• " + compared.reasons.join("\n• "));
  std::vector<QStringList> rows;
  for (const ComparedRow& row : compared.rows) rows.push_back({row.what, row.first, row.second});
  differences_.set({"differs", "A", "B"}, std::move(rows));
  deltas_->show_deltas(compared.classes, "Exposed time by class of operation");
  MeasuredComparison measured;
  if (b && b->report) measured = compare_measured(*b);
  measured_verdict_->setText(
      b && b->report
          ? measured.verdict
          : QString("Open the report of a run (report.json) to compare it with its plan."));
  std::vector<QStringList> lines;
  for (const MeasuredRow& row : measured.rows) {
    lines.push_back({row.operation, row.pass, time_text(row.predicted_us),
                     time_text(row.measured_us),
                     QString("%1%2 %")
                         .arg(row.error() < 0 ? "−" : "+")
                         .arg(100 * std::abs(row.error()), 0, 'f', 1),
                     row.within() ? "within" : "outside", row.source});
  }
  measured_.set({"operation", "pass", "predicted", "measured", "error", "90 %", "source"},
                std::move(lines));
  scatter_->show_rows(measured.rows);
  if (b && b->report && !(a && b && a->hash != b->hash)) tabs_->setCurrentIndex(1);
}

}  // namespace imhotep::gui
