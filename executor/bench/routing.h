#pragma once
// Controlled routing for benchmarks of generation. All rows of a step have the same position, so
// the position's embedding is what tokens have in common: its size decides how alike their routes
// are, and costs nothing to change.

#include <cstdint>

#include "executor/runtime/runner.h"

namespace imhotep::executor {

enum class Routing : std::uint8_t {
  Natural,  // as random weights have it: tokens share a position as large as their words
  Uniform,  // no position: the gate sees independent tokens
  Skewed,   // a position four times as large as the words: tokens crowd on few experts
};

// Changes the position table of a runner whose weights are initialized.
void set_routing(const Plan& plan, Runner& runner, Routing routing, std::uint64_t seed);

}  // namespace imhotep::executor
