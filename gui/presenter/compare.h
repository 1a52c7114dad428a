#pragma once
// Two plans, or a plan and what a run of it measured: what differs, by how much, and why in words.

#include <QString>
#include <QStringList>
#include <vector>

#include "gui/presenter/planning.h"

namespace imhotep::gui {

struct ComparedRow {
  QString what, first, second;  // degrees and headline figures; equal ones are left out
};
struct Delta {
  QString operation;
  double first_us = 0, second_us = 0;  // of a step
  [[nodiscard]] double change_us() const { return second_us - first_us; }
};
struct Comparison {
  QString verdict;      // "B is 12 % faster than A: 10.2 ms instead of 11.6 ms."
  QStringList reasons;  // the largest causes first
  std::vector<ComparedRow> rows;
  std::vector<Delta> classes;     // by class of operation, largest change first
  std::vector<Delta> operations;  // by operation and pass
};
[[nodiscard]] Comparison compare_plans(const Detail& a, const Detail& b);

// Predicted against measured, one row an operation and pass; the step comes first.
struct MeasuredRow {
  QString operation, pass, source;
  double predicted_us = 0, low_us = 0, high_us = 0, measured_us = 0;
  [[nodiscard]] double error() const {  // as `imhotep compare`: (predicted - measured) / measured
    return measured_us > 0 ? (predicted_us - measured_us) / measured_us : 0;
  }
  [[nodiscard]] bool within() const { return measured_us >= low_us && measured_us <= high_us; }
};
struct MeasuredComparison {
  QString verdict;
  std::vector<MeasuredRow> rows;
};
// With the prediction of `detail`, made anew. Requires: detail.report.
[[nodiscard]] MeasuredComparison compare_measured(const Detail& detail);

}  // namespace imhotep::gui
