#include "gui/presenter/plan_table.h"

#include <algorithm>

#include "gui/presenter/basics.h"
#include "gui/presenter/rows_model.h"

namespace imhotep::gui {

PlanTable::PlanTable(QObject* parent)
    : QAbstractTableModel(parent), filter_(std::make_shared<const Filter>()), arranging_(this) {
  arranged_.passing = std::make_shared<const std::vector<std::int64_t>>();
}

// Jobs hold this object by a plain pointer.
PlanTable::~PlanTable() {
  arranging_.cancel();
  QThreadPool::globalInstance()->waitForDone();
}

void PlanTable::set_plans(Plans plans) {
  beginResetModel();
  arranging_.cancel();
  plans_ = std::move(plans);
  filter_ = std::make_shared<const Filter>();
  try {
    if (plans_) filter_ = std::make_shared<const Filter>(filter_text_, *plans_);
  } catch (const std::exception&) {  // its columns are gone
    filter_text_.clear();
  }
  arranged_ = plans_ ? unarranged(*plans_)
                     : Arrangement{.passing = std::make_shared<std::vector<std::int64_t>>()};
  rebuild_columns();
  endResetModel();
  arrange_rows();
}

void PlanTable::set_filter(const QString& text) {
  filter_ = plans_ ? std::make_shared<const Filter>(text, *plans_) : filter_;
  filter_text_ = text;
  arrange_rows();
}

void PlanTable::arrange_rows() {
  if (!plans_) return;
  if (plans_->size() <= kAtOnce) {
    arranging_.cancel();
    return accept(arrange(*plans_, *filter_, sorts_, Stop()));
  }
  arranging_.start([plans = plans_, filter = filter_, keys = sorts_](
                       const Stop& stop) { return arrange(*plans, *filter, keys, stop); },
                   [this](Arrangement arrangement) { accept(std::move(arrangement)); });
  Q_EMIT arranging();
}

void PlanTable::accept(Arrangement arrangement) {
  // The same rows in another order keep what is selected.
  const bool same_rows = *arrangement.passing == *arranged_.passing;
  if (same_rows) {
    Q_EMIT layoutAboutToBeChanged();
    const QModelIndexList before = persistentIndexList();
    std::vector<std::int64_t> held;
    for (const QModelIndex& index : before) held.push_back(plan_at(index.row()));
    arrangement.passing = arranged_.passing;
    arranged_ = std::move(arrangement);
    QModelIndexList after;
    for (int i = 0; i < count_of(before); ++i) {
      after << index(row_of_plan(held[static_cast<std::size_t>(i)]), before[i].column());
    }
    changePersistentIndexList(before, after);
    Q_EMIT layoutChanged();
  }
  if (!same_rows || only_differing_) {
    beginResetModel();
    if (!same_rows) arranged_ = std::move(arrangement);
    rebuild_columns();
    endResetModel();
  }
  Q_EMIT arranged();
}

void PlanTable::set_hidden(const QStringList& names) {
  beginResetModel();
  hidden_ = names;
  rebuild_columns();
  endResetModel();
}

void PlanTable::set_only_differing(bool only) {
  beginResetModel();
  only_differing_ = only;
  rebuild_columns();
  endResetModel();
}

void PlanTable::rebuild_columns() {
  shown_.clear();
  if (!plans_) return;
  for (int i = 0; i < count_of(plans_->columns); ++i) {
    if (hidden_.contains(plans_->columns[i].name)) continue;
    if (only_differing_ && !arranged_.rows.empty() && !arranged_.differs[i]) continue;
    shown_.push_back(i);
  }
}

void PlanTable::sort(int column, Qt::SortOrder order) {
  constexpr std::size_t kMostKeys = 4;
  const Column* by = column_at(column);
  if (by == nullptr) return;
  std::erase_if(sorts_, [&](const SortKey& key) { return key.name == by->name; });
  sorts_.push_back({by->name, order});
  if (sorts_.size() > kMostKeys) sorts_.erase(sorts_.begin());
  arrange_rows();
}

std::int64_t PlanTable::plan_at(int row) const {
  return row >= 0 && row < count_of(arranged_.rows) ? arranged_.rows[row] : -1;
}

int PlanTable::row_of_plan(std::int64_t plan) const {
  const auto found = std::find(arranged_.rows.begin(), arranged_.rows.end(), plan);
  return found == arranged_.rows.end() ? -1 : static_cast<int>(found - arranged_.rows.begin());
}

const Column* PlanTable::column_at(int section) const {
  if (!plans_ || section < 0 || section >= count_of(shown_)) return nullptr;
  return &plans_->columns[shown_[section]];
}

PlanTable::Copy PlanTable::copied(const std::vector<int>& rows) const {
  Copy copy{.plans = plans_, .columns = shown_};
  for (const int row : rows) copy.rows.push_back(arranged_.rows[row]);
  if (rows.empty()) copy.rows = arranged_.rows;
  return copy;
}

QString copy_text(const PlanTable::Copy& copy, CopyFormat format) {
  QStringList headers;
  for (const int c : copy.columns) headers << copy.plans->columns[c].name;
  std::vector<QStringList> cells;
  for (const std::int64_t plan : copy.rows) {
    QStringList line;
    for (const int c : copy.columns) {
      const Column& column = copy.plans->columns[c];
      const double value = column.values[plan];
      // For other programs: numbers in the units of the files. For people: as on the screen.
      const bool raw = format == CopyFormat::Csv && column.kind != Column::Kind::Choice;
      line << (raw ? QString::number(value, 'g', 12) : column.text(value));
    }
    cells.push_back(line);
  }
  return format == CopyFormat::Csv ? csv_of(headers, cells) : markdown_of(headers, cells);
}

int PlanTable::rowCount(const QModelIndex& parent) const {
  return parent.isValid() ? 0 : count_of(arranged_.rows);
}

int PlanTable::columnCount(const QModelIndex& parent) const {
  return parent.isValid() ? 0 : count_of(shown_);
}

QVariant PlanTable::data(const QModelIndex& index, int role) const {
  const Column* column = index.isValid() ? column_at(index.column()) : nullptr;
  const std::int64_t plan = plan_at(index.row());
  if (column == nullptr || plan < 0) return {};
  if (role == Qt::DisplayRole) return column->text(column->values[plan]);
  if (role == Qt::TextAlignmentRole) {
    const bool text = column->kind == Column::Kind::Choice;
    return QVariant::fromValue<int>((text ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
  }
  if (role == Qt::ToolTipRole || role == Qt::AccessibleTextRole) {
    return column->title + ": " + column->text(column->values[plan]);
  }
  if (role == Qt::FontRole && plan == plans_->best) {
    QFont bold;
    bold.setBold(true);
    return bold;
  }
  return {};
}

QVariant PlanTable::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation == Qt::Vertical) {
    return role == Qt::DisplayRole ? QVariant(section + 1) : QVariant();
  }
  const Column* column = column_at(section);
  if (column == nullptr) return {};
  if (role == Qt::DisplayRole) return QString(column->name).replace('_', ' ');
  if (role == Qt::ToolTipRole || role == Qt::AccessibleTextRole) return column->title;
  return {};
}

}  // namespace imhotep::gui
