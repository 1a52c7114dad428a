#pragma once
// What a rank takes of its GPU beside the bytes of its programs' buffers. Not the context: a
// device's usable memory is what a context leaves of it. How well this holds:
// docs/validation/memory.md.

#include <span>

#include "core/program/program.h"
#include "core/spec/cluster.h"
#include "core/spec/plan.h"

namespace imhotep::program {

// A block of memory is whole pages; blocks below half a page share pages.
inline constexpr std::int64_t kDevicePage = 2 << 20;

// Small sums and gathers inside a node are one kernel that stores into the members' windows; NCCL
// carries everything else (executor/comm/cuda_communicator.h).
inline constexpr std::int64_t kMostStagedBytes = 96 * (8 << 10);  // of one member
inline constexpr std::int64_t kMostInOneShot = 512 << 10;  // to all others; above, rings move less
inline constexpr int kMostWindows = 16;                    // members of a group with windows
inline constexpr std::int64_t kWindowBlocks = 96;          // of a kernel; each has a counter

// Whether a group of that many members moves so many bytes of each through its windows.
[[nodiscard]] bool fits_windows(std::int64_t bytes, int members);
// Flags, counters and stage of one member.
[[nodiscard]] std::int64_t window_bytes(int members);

// Pages that the blocks of these programs leave partly empty; each block is reserved once, as large
// as the largest program needs it.
[[nodiscard]] std::int64_t page_waste(std::span<const Program> programs);

// Waste, windows (a page for the tables of each layer's exchange too) and NCCL: all that is counted
// as BufferKind::Libraries. 0 where no libraries were measured, for plans of CPU ranks and for
// those of other systems, which have a constant of their own.
[[nodiscard]] std::int64_t bytes_beside_buffers(const Plan& plan, std::span<const Program> programs,
                                                const LibraryBytes& libraries);

}  // namespace imhotep::program
