#pragma once
// Data for benchmarks, where a runner keeps it.

#include <cstdint>

#include "executor/runtime/runner.h"

namespace imhotep::executor {

// Copies host data into a buffer of the runner; returns when it is there.
void put(const Runner& runner, std::byte* to, const void* from, std::int64_t bytes);
// Copies a buffer of the runner to the host.
void get(const Runner& runner, void* to, const std::byte* from, std::int64_t bytes);
// Normal values of the buffer's type in a buffer of fp32, bf16 or fp64.
void fill_random(const Runner& runner, int program, BufferId buffer, double deviation,
                 std::uint64_t seed);

}  // namespace imhotep::executor
