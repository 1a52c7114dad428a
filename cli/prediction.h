#pragma once
// What the simulator expects of a plan on its cluster, and reports that hold it beside what was
// measured.

#include "core/spec/report.h"
#include "simulator/step.h"

namespace imhotep::cli {

// With that profile (a name, a file or "none"); by default the one of the plan's cluster, where one
// was measured. Throws: Missing for an unknown name.
[[nodiscard]] simulator::Simulator simulator_for(const Plan& plan, const std::string& profile = "");

// Fills the predicted figures of a report whose measured ones are there.
void add_prediction(RunReport& report, const simulator::StepPrice& price);

// The same by the report's own phase, under the expert load that the run counted, where it did:
// what is compared then is the prices, not a guess at the routing. Throws: Error(Input) for a phase
// that has no price.
void predict_report(RunReport& report, const simulator::Simulator& simulator);

// Completes a report that was just measured with machine, command and prediction, and writes it.
RunReport save_report(RunReport report, const std::string& command, const std::string& file);

// "10%" or "0.1". Throws: Error(Input).
[[nodiscard]] double parse_share(const std::string& text);

// Predicted, measured and error of a report, as a table.
void print_comparison(const RunReport& report, bool color, std::size_t rows);

// (predicted - measured) / measured.
[[nodiscard]] double relative_error(double predicted, double measured);

}  // namespace imhotep::cli
