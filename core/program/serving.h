#pragma once
// The programs of a server, and what they need: one a bucket of its scheduler.

#include "core/program/build.h"
#include "core/schedule/step.h"

namespace imhotep::program {

struct ServingShape {
  std::int64_t sequences = 1, chunk = 128;  // at once, a data rank; rows of a step
  std::int64_t pages = 1;                   // of the KV cache, a data rank
  std::int64_t max_context = 1;             // tokens of one sequence in the cache
};

// A plan's bound on received rows is made for its own batch and even routing; a server takes what
// comes, and a step that exceeds the bound would end it: every bound is the worst case here.
[[nodiscard]] Plan ready_for_all(Plan plan);

[[nodiscard]] GenerateShape serving_program(const ServingShape& shape,
                                            const schedule::Bucket& bucket);

// Everything a rank allocates for a server of this shape, but tables of its exchanges.
[[nodiscard]] MemoryUse serving_memory(const Plan& plan, Rank rank, const ServingShape& shape);

}  // namespace imhotep::program
