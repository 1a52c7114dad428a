#pragma once
// The table of plans: sorting by several columns, filter, chosen columns. It sorts and filters row
// numbers itself, because proxies take a second for 100,000 rows; of many plans beside the window.

#include <QAbstractTableModel>
#include <vector>

#include "gui/presenter/arrangement.h"

namespace imhotep::gui {

class PlanTable : public QAbstractTableModel {
  Q_OBJECT
 public:
  // Up to so many plans are arranged at once. More keep their former order (new plans: their own)
  // until `arranged` tells that the newest filter and sorting hold.
  static constexpr std::int64_t kAtOnce = 20'000;

  explicit PlanTable(QObject* parent = nullptr);
  ~PlanTable() override;

  void set_plans(Plans plans);
  [[nodiscard]] const Plans& plans() const { return plans_; }

  // Throws: Error(Input); the old filter stays.
  void set_filter(const QString& text);
  [[nodiscard]] const QString& filter() const { return filter_text_; }
  // Rows that pass, ascending. Never null.
  [[nodiscard]] const Rows& passing() const { return arranged_.passing; }
  [[nodiscard]] bool is_arranging() const { return arranging_.is_running(); }

  void set_hidden(const QStringList& names);
  [[nodiscard]] const QStringList& hidden() const { return hidden_; }
  // Leaves out columns with one value in all rows shown.
  void set_only_differing(bool only);
  [[nodiscard]] bool only_differing() const { return only_differing_; }

  [[nodiscard]] std::int64_t plan_at(int row) const;         // -1: none
  [[nodiscard]] int row_of_plan(std::int64_t plan) const;    // -1: not shown
  [[nodiscard]] const Column* column_at(int section) const;  // nullptr: none

  // What a copy of the given rows of the table holds; none: all of them.
  struct Copy {
    Plans plans;
    std::vector<std::int64_t> rows;  // of the plans
    std::vector<int> columns;
  };
  [[nodiscard]] Copy copied(const std::vector<int>& rows) const;

  [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const final;
  [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const final;
  [[nodiscard]] QVariant data(const QModelIndex& index, int role) const final;
  [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const final;
  // Stable: rows that are equal keep the order that the sort before gave them.
  void sort(int column, Qt::SortOrder order) final;

 Q_SIGNALS:
  void arranging();  // begins beside the window
  void arranged();   // the newest filter and sorting hold

 private:
  void rebuild_columns();
  void arrange_rows();
  void accept(Arrangement arrangement);

  Plans plans_;
  std::shared_ptr<const Filter> filter_;  // never null
  QString filter_text_;
  Arrangement arranged_;
  std::vector<int> shown_;  // columns of the plan set
  QStringList hidden_;
  bool only_differing_ = false;
  std::vector<SortKey> sorts_;  // the latest last
  Newest arranging_;
};

enum class CopyFormat { Csv, Markdown };
// Async: any thread.
[[nodiscard]] QString copy_text(const PlanTable::Copy& copy, CopyFormat format);

}  // namespace imhotep::gui
