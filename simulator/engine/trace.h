#pragma once
// A timeline for human eyes.

#include <string>

#include "core/program/program.h"
#include "simulator/engine/schedule.h"

namespace imhotep::simulator {

// Chrome trace events (JSON object format): open in chrome://tracing or ui.perfetto.dev.
// One process a rank, one thread a stream; times in microseconds.
// Source: "Trace Event Format" (Google), events X (complete) and M (metadata).
[[nodiscard]] std::string chrome_trace(const program::Program& program, const Timeline& timeline,
                                       int rank = 0);

// Operations in order of start, with their share of the makespan; '*' marks the critical path.
[[nodiscard]] std::string timeline_table(const program::Program& program, const Timeline& timeline);

}  // namespace imhotep::simulator
