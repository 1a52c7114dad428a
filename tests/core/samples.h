#pragma once
// One filled document of every kind, for round trips and schemas.

#include "core/spec/report.h"

namespace imhotep::test {

[[nodiscard]] Workload sample_workload();
[[nodiscard]] Plan
sample_plan();  // legal, generation on 8 ranks, every field away from its default
[[nodiscard]] RunReport sample_report();
[[nodiscard]] ClusterSpec sample_cluster();

}  // namespace imhotep::test
