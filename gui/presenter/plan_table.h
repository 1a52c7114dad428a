#pragma once
// The table of plans: sorting by several columns, filter, chosen columns. It sorts and filters row
// numbers itself, because proxies take a second for 100,000 rows.

#include <QAbstractTableModel>
#include <vector>

#include "gui/presenter/filter.h"
#include "gui/presenter/plan_set.h"

namespace imhotep::gui {

class PlanTable : public QAbstractTableModel {
  Q_OBJECT
 public:
  explicit PlanTable(QObject* parent = nullptr) : QAbstractTableModel(parent) {}

  void set_plans(Plans plans);
  [[nodiscard]] const Plans& plans() const { return plans_; }

  // Throws: Error(Input); the old filter stays.
  void set_filter(const QString& text);
  [[nodiscard]] const QString& filter() const { return filter_text_; }
  // Rows that pass, in the order shown.
  [[nodiscard]] const std::vector<std::int64_t>& shown_rows() const { return rows_; }

  void set_hidden(const QStringList& names);
  [[nodiscard]] const QStringList& hidden() const { return hidden_; }
  // Leaves out columns with one value in all rows shown.
  void set_only_differing(bool only);
  [[nodiscard]] bool only_differing() const { return only_differing_; }

  [[nodiscard]] std::int64_t plan_at(int row) const;         // -1: none
  [[nodiscard]] int row_of_plan(std::int64_t plan) const;    // -1: not shown
  [[nodiscard]] const Column* column_at(int section) const;  // nullptr: none

  enum class Format { Csv, Markdown };
  // Of the given rows of the table; none: all of them.
  [[nodiscard]] QString copied(const std::vector<int>& rows, Format format) const;

  [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const final;
  [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const final;
  [[nodiscard]] QVariant data(const QModelIndex& index, int role) const final;
  [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const final;
  // Stable: rows that are equal keep the order that the sort before gave them.
  void sort(int column, Qt::SortOrder order) final;

 private:
  void rebuild_columns();
  void apply_filter();
  void sort_rows(std::size_t first_key);

  Plans plans_;
  Filter filter_;
  QString filter_text_;
  std::vector<std::int64_t> rows_;
  std::vector<int> shown_;  // columns of the plan set
  QStringList hidden_;
  bool only_differing_ = false;
  struct SortKey {
    QString name;
    Qt::SortOrder order;
  };
  std::vector<SortKey> sorts_;  // the latest last
};

}  // namespace imhotep::gui
