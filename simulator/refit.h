#pragma once
// A profile that has learnt from a run: what a report measured becomes points of the profile, so
// that the next prediction of such a step starts from it.

#include "core/spec/report.h"
#include "profiles/profile.h"
#include "simulator/step.h"

namespace imhotep::simulator {

struct Refit {
  profiles::Profile profile;  // with a note for the report; not yet hashed
  std::size_t points = 0;     // written, new or over older ones
  std::size_t left_out = 0;   // rows of the report that fit no operation of the plan, or are noisy
};

// A report knows what an operation took in a whole step, all its occurrences together. Each of
// them, by its shape, gets the time that the simulator expects of it, times measured over predicted
// of their sum. Communication counts as the rank saw it: waiting for others is part of it. What
// belongs to no operation corrects the overhead of a step. Rows whose spread exceeds
// `noisiest` are left out.
// `simulator` is that of the profile, on the cluster of the plan.
// Throws: Error(Input) when the report has nothing measured, was made on another device than the
// profile, or is of a phase that has no price.
[[nodiscard]] Refit refit(const profiles::Profile& profile, const Simulator& simulator,
                          const RunReport& report, double noisiest = 0.25);

}  // namespace imhotep::simulator
