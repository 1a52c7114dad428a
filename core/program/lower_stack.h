#pragma once
// The second lowering of a decode step: consecutive blocks that lower_decode has made of
//   norm_gemm, attention_cached, gemm, then norm_gemm, gemm or
//   norm_gate, few_experts_up, few_experts_down
// become one decode_stack. Balance statistics, routes and pages keep their buffers.

#include "core/program/program.h"

namespace imhotep::program {

// Operands of a layer in decode_stack (operands.md); those behind x, positions, sequences, block
// table and used, and behind y.
inline constexpr std::size_t kStackFirst = 5, kStackInputs = 20, kStackOutputs = 5;

// Requires: a program that lower_decode returned. Returns it unchanged where nothing suits.
[[nodiscard]] Program lower_stack(Program program);

}  // namespace imhotep::program
