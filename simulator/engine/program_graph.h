#pragma once
// A program as a graph of tasks, in the order of its streams (core/program/streams.h).

#include <span>

#include "core/program/program.h"
#include "simulator/cost/cost.h"
#include "simulator/engine/schedule.h"

namespace imhotep::simulator {

// Requires: a cost for every operation. Without `overlap` all streams are one, as on CPU ranks,
// whose processor does the communication too.
[[nodiscard]] TaskGraph task_graph(const program::Program& program, std::span<const Cost> costs,
                                   bool overlap);

// Time in which communication runs and no computation does.
[[nodiscard]] double exposed_communication_us(const program::Program& program,
                                              const Timeline& timeline);

}  // namespace imhotep::simulator
