#pragma once
// imhotep calibrate --from REPORT: the profile learns from runs instead of probes.

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"

namespace imhotep::cli {

// Reads the profile of the reports' cluster (`profile`: this file instead), writes it with what the
// reports measured to `output` (the user's folder), and prints each step's error before and after.
// Throws: Error(Input) when the reports are of different clusters, or as simulator::refit.
int calibrate_from(const std::vector<std::string>& reports, const std::string& profile,
                   const std::string& output, const Session& session);

}  // namespace imhotep::cli
