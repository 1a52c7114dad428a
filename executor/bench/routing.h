#pragma once
// Controlled routing for benchmarks: noise that is added to the gate's logits for the choice of
// experts alone, so that random weights do not decide how many experts a step touches.

#include <cstdint>

#include "core/program/program.h"
#include "executor/runtime/runner.h"

namespace imhotep::executor {

enum class Routing : std::uint8_t {
  Natural,  // as the weights and tokens have it
  Uniform,  // every token draws its expert uniformly
  Skewed,   // expert e with probability proportional to 1 / (e + 1)
};

// Gives every gate of the program an operand of noise. Before place_buffers or after: the noise
// lives beside the arena. Requires: k = 1 in every gate.
void control_routing(program::Program& program);

// Draws the noise of all gates of a runner's program and puts it where it runs.
void draw_routing(Runner& runner, int program, Routing routing, std::uint64_t seed);

}  // namespace imhotep::executor
