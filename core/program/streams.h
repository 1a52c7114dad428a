#pragma once
// The two streams of a program. Computation goes one after another on the one, communication on
// the other, and between them an operation waits for whoever last wrote its inputs and for whoever
// still uses its outputs. A buffer counts as a whole, but for regions of gradients, which count by
// tensor: the sum of one layer's runs beside the backward pass of the next.
//
// Communication is one queue, whichever stream it is on: each waits for the one before it, so that
// all ranks take part in one order and never in two at once.

#include <vector>

#include "core/program/program.h"

namespace imhotep::program {

// Communication whose result the next computation needs goes to the compute stream, where nothing
// waits for an event; so does all that is queued just before it.
void assign_streams(Program& program);

// By operation: the last operation of the other stream that is done before it starts, -1: none.
// All before that one on its stream are done too. An operation waits where the number is larger
// than that of the operation before it on its own stream.
[[nodiscard]] std::vector<int> done_elsewhere(const Program& program);

}  // namespace imhotep::program
