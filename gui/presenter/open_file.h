#pragma once
// Any file of the project, by what is in it: plan, answer of `imhotep plan --json`, model, cluster,
// workload, profile, report, search or session.

#include <QString>
#include <optional>
#include <variant>

#include "core/spec/report.h"
#include "gui/presenter/plan_set.h"
#include "gui/presenter/session.h"

namespace imhotep::gui {

struct ProfileFile {
  QString file, name;
};
using Opened =
    std::variant<Plan, RunReport, ModelSpec, ClusterSpec, Workload, ProfileFile, Plans, Session>;

// Throws: Error(Input) with file, line and path, also for files that are none of these.
[[nodiscard]] Opened open_any(const QString& file);

}  // namespace imhotep::gui
