#pragma once
// A priced program taken apart: which time and which memory belong to which block.

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/program/program.h"
#include "simulator/engine/schedule.h"

namespace imhotep::planner {

// By operation: how much later the program is done with it than with all operations before it.
// The parts sum to the makespan.
[[nodiscard]] std::vector<double> finish_increments(const simulator::Timeline& timeline);

// Bytes of `buffers` alive at each of `operations` (ascending), aligned as the arena places them.
[[nodiscard]] std::vector<std::int64_t> live_bytes(const program::Program& program,
                                                   const std::vector<int>& buffers,
                                                   const std::vector<int>& operations);

// Arena buffers by layer + 1.
[[nodiscard]] std::vector<std::vector<int>> arena_buffers(const program::Program& program,
                                                          int layers);

[[nodiscard]] std::int64_t aligned_bytes(const program::Buffer& buffer);

// Of the first micro-step of an optimizer step makes a later one, as far as prices read it:
// products add to the gradients that the first one writes. Its zeroing of gradients, which comes
// before all else and is nobody's block, stays.
void add_to_gradients(program::Program& first);

// First operation of that name, or -1.
[[nodiscard]] int find_operation(const program::Program& program, std::string_view name);

}  // namespace imhotep::planner
