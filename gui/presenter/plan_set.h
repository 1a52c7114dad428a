#pragma once
// Many plans as columns of numbers: what table, chart, filter and search file work on. A plan is a
// row; whole plans are built only of rows that somebody looks at (planning.h).

#include <QString>
#include <QStringList>
#include <cstdint>
#include <memory>
#include <vector>

#include "gui/presenter/question.h"

namespace imhotep::gui {

struct Column {
  enum class Kind { Time, Bytes, Rate, Count, Money, Choice };
  QString name;   // in filters and files: "memory"
  QString title;  // "memory of the fullest rank"
  Kind kind = Kind::Count;
  bool more_is_better = false;
  QStringList choices;         // of Kind::Choice: texts of 0, 1, ...
  std::vector<double> values;  // times in us, memory in bytes, money for a million tokens

  [[nodiscard]] bool is_measure() const { return kind != Kind::Count && kind != Kind::Choice; }
  // "12.8 ms", "61.2 GB", "flat".
  [[nodiscard]] QString text(double value) const;
  // What `text` is in, for axes: "ms" and the factor from a stored value to it.
  struct Unit {
    QString name;
    double scale = 1;
  };
  [[nodiscard]] Unit unit_for(double largest) const;
};

struct Interval {
  std::int64_t row = 0;
  double low = 0, high = 0;  // of column "time"
};

// Of column "fits": the row cannot be run (gui/presenter/priced_rows.cpp).
inline constexpr double kPricedOnly = 2;

struct PlanSet {
  Question question;
  std::vector<Column> columns;
  std::vector<Interval> intervals;  // of rows that were simulated whole, ascending rows
  std::int64_t best = -1;           // -1: nothing fits
  QString prices;                   // "profile local of 2026-11-21" or why there is none
  QString note;                     // what was left out, if anything
  double seconds = 0;               // that the search took

  [[nodiscard]] std::int64_t size() const {
    return columns.empty() ? 0 : static_cast<std::int64_t>(columns.front().values.size());
  }
  [[nodiscard]] int index_of(const QString& name) const;  // -1: no such column
  [[nodiscard]] const Column* find(const QString& name) const;
  [[nodiscard]] double value(const QString& name, std::int64_t row) const;
  [[nodiscard]] const Interval* interval(std::int64_t row) const;
  [[nodiscard]] bool fits(std::int64_t row) const;
  [[nodiscard]] bool priced_only(std::int64_t row) const;
  // "64 GPUs: tensor 2 x data 32, experts 64: 32 x 1 x 2 flat"
  [[nodiscard]] QString title(std::int64_t row) const;
};

using Plans = std::shared_ptr<const PlanSet>;

// Rows that nothing beats in both columns, by ascending first column. Only rows of `allowed`.
[[nodiscard]] std::vector<std::int64_t> pareto_front(const PlanSet& plans, int first, int second,
                                                     const std::vector<std::int64_t>& allowed);

// Rows that fit and keep to the limits. Cost: linear, without looking columns up by name.
[[nodiscard]] std::vector<std::int64_t> usable_rows(const PlanSet& plans,
                                                    const std::vector<std::int64_t>& among);

// Whether a row keeps to the limits of the question.
[[nodiscard]] bool within_limits(const PlanSet& plans, std::int64_t row);

}  // namespace imhotep::gui
