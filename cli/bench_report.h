#pragma once
// What `imhotep bench` measured of a step, as a report for `compare` and `validate`.

#include <string>

#include "executor/bench/bench.h"

namespace imhotep::cli {

// The step as the host sees it, inputs and results included, with its operations timed one by one.
// `phase`: training, decode or prefill.
// Throws: Error(Input) for a prompt that takes several steps.
void save_bench_report(const executor::BenchResult& result, const std::string& phase,
                       const std::string& command, const std::string& file);

}  // namespace imhotep::cli
