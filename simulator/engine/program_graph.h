#pragma once
// A program as a graph of tasks. Order between streams follows from buffers: an operation waits
// for whoever last wrote its inputs, and, before it writes, for whoever still uses its outputs.
// A buffer counts as a whole, whatever part of it an operation touches.

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
