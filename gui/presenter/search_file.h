#pragma once
// A search as a file: the question and all its plans as columns, so that 100,000 plans open at
// once. Format: docs/gui/search-file.md. Writing the same plans twice gives the same bytes.

#include <QString>

#include "gui/presenter/plan_set.h"

namespace imhotep::gui {

// Writes to a temporary name and renames. Throws: Error(Failed) naming file and cause.
void write_search(const PlanSet& plans, const QString& file);
// Throws: Error(Input) naming what is broken: not this format, cut short, a wrong checksum, columns
// of different lengths.
[[nodiscard]] PlanSet read_search(const QString& file);

}  // namespace imhotep::gui
