#pragma once
// How columns call the kinds of MoE layers of a space.

#include <QString>
#include <vector>

#include "planner/space/space.h"

namespace imhotep::gui {

// "" when all MoE layers are of one kind, else "_64" and so on, made unique.
[[nodiscard]] std::vector<QString> kind_names(const planner::Space& space);

}  // namespace imhotep::gui
