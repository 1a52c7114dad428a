#pragma once
// The experts that the tokens of a probe really chose. Random weights route by word and position:
// far from the even spread that a program expects, and time follows what was read.

#include <span>

#include "executor/calibrate/probe_walk.h"
#include "executor/runtime/runner.h"

namespace imhotep::executor {

// Gives the readings of one walk the active experts and the busiest share of their layers, from
// the balance statistics that the walk left behind. Models of more than one choice stay as they
// are: their statistics count the first choice alone. Where a gate drops, products of experts are
// marked: how many rows they had is not known.
void note_load(const Plan& plan, const Runner& runner, std::span<ProbeReadings::Reading> readings);

}  // namespace imhotep::executor
