#pragma once
// From a plan to the program of one rank. Pure: no device, no I/O.

#include "core/program/program.h"
#include "core/spec/cluster.h"
#include "core/spec/plan.h"

namespace imhotep::program {

// Tokens of one micro-batch: plan.micro_batch x workload.sequence.
struct TrainOptions {
  bool first = true;  // of the step: starts the gradients, which later micro-batches add to
  bool place = true;  // buffers in the arena; a program that is only priced needs no places
};
[[nodiscard]] Program build_train_step(const Plan& plan, Rank rank, TrainOptions options = {});

// Reduces gradients over their groups, clips by the global norm, updates weights (ZeRO 0 or 1).
[[nodiscard]] Program build_update(const Plan& plan, Rank rank);

// Forward without dropping; `sequences` sequences of plan.workload.sequence tokens.
[[nodiscard]] Program build_evaluate(const Plan& plan, Rank rank, std::int64_t sequences);

// One step of generation: `rows` tokens of at most `sequences` sequences of this data rank, each
// of which may ask for a next token (so up to `samples` rows reach the head).
struct GenerateShape {
  std::int64_t rows = 1, sequences = 1, samples = 1;
  std::int64_t max_context = 0;  // tokens the KV cache holds for a sequence
  double context = 0;            // expected keys a row attends to, for the price
  std::int64_t pages = 0;        // of the KV pool; 0: max_context for every sequence
  double used_rows = 0;          // expected rows that hold a token, for the price; 0: all
};
[[nodiscard]] Program build_generate(const Plan& plan, Rank rank, GenerateShape shape);

// Decode step of the plan's workload: every sequence of the rank advances by one token.
[[nodiscard]] GenerateShape decode_shape(const Plan& plan);
// One prefill chunk of a single sequence.
[[nodiscard]] GenerateShape prefill_shape(const Plan& plan);

// Everything a rank allocates for the plan's workload: the largest program of each phase used,
// regions counted once, and on a GPU what it holds beside them (device_memory.h).
[[nodiscard]] MemoryUse plan_memory(const Plan& plan, Rank rank,
                                    const LibraryBytes& libraries = {});

}  // namespace imhotep::program
