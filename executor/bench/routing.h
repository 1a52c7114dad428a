#pragma once
// Controlled routing for benchmarks of generation: the gates of a decode step add noise to their
// logits that is so large at experts drawn here that the tokens go there.

#include <cstdint>

#include "executor/runtime/runner.h"

namespace imhotep::executor {

enum class Routing : std::uint8_t {
  Natural,  // as random weights have it: tokens share a position as large as their words
  Uniform,  // every token draws its experts alike
  Skewed,   // expert i of a layer's own order is drawn with weight 1 / (i + 1)
};

// Gives the gates of a decode program their noise, zero until draw_routes.
// Throws: Error(Input) if the program has no fused gate: too many rows, or no experts.
void add_gate_noise(program::Program& program);
// Draws the experts of every token and layer. Requires: add_gate_noise on the program.
// Ranks that draw with one seed draw for one batch.
struct RouteDraw {
  Routing routing = Routing::Uniform;
  int top_k = 1;
  std::int64_t first_token = 0;  // of this rank in the batch
  std::uint64_t seed = 1;
};
void draw_routes(const Runner& runner, int program, const RouteDraw& how);

}  // namespace imhotep::executor
