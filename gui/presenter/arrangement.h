#pragma once
// Which plans the table shows, and in which order: filtered and sorted, without a model or a
// widget, so that it can be done on any thread.

#include <QString>
#include <memory>
#include <vector>

#include "gui/presenter/filter.h"
#include "gui/presenter/plan_set.h"
#include "gui/presenter/stop.h"

namespace imhotep::gui {

using Rows = std::shared_ptr<const std::vector<std::int64_t>>;

struct SortKey {
  QString name;  // of a column; one that is not there is passed over
  Qt::SortOrder order = Qt::AscendingOrder;
};

struct Arrangement {
  Rows passing;                    // the filter, ascending; never null
  std::vector<std::int64_t> rows;  // the same in the order of the keys
  std::vector<bool> differs;       // by column of the plans: more than one value in these rows
};

// Sorts by the last key; rows equal in it keep the order that the key before gave them.
// Async: any thread; what was stopped is incomplete.
[[nodiscard]] Arrangement arrange(const PlanSet& plans, const Filter& filter,
                                  const std::vector<SortKey>& keys, const Stop& stop);
// All plans as they are; every column may differ. Cost: one pass.
[[nodiscard]] Arrangement unarranged(const PlanSet& plans);

}  // namespace imhotep::gui
