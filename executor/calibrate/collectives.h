#pragma once
// Times of collectives by kind, group size and bytes (profiles::collective_bytes).

#include <functional>
#include <vector>

#include "executor/comm/communicator_pool.h"
#include "profiles/profile.h"

namespace imhotep::executor {

// Collective over all ranks; groups of the first 2, 4, ... ranks, and of all. Complete at rank 0.
// `gpu`: between the ranks' GPUs, in bf16 and up to larger sizes, timed by events; else between the
// processors, in fp32.
[[nodiscard]] std::vector<profiles::CollectiveTable> time_collectives(
    const Bootstrap& bootstrap, CommunicatorPool& pool, bool gpu,
    const std::function<void()>& progress);

// Calls of `progress` that time_collectives makes.
[[nodiscard]] std::int64_t collective_steps(int world);

}  // namespace imhotep::executor
