#pragma once
// The lowering of a generation step of few rows to the fused families that a GPU runs:
//   layer_norm, gemm                                -> norm_gemm
//   layer_norm, gate, routing, experts, combination -> norm_gate, few_experts_up, few_experts_down
//   (with the residual branch's products and mixing, or the residual addition)
// MoE layers of several ranks: lower_routed.h. Inputs, Kv and balance statistics keep their
// buffers, whose identities do not change; intermediates disappear.

#include "core/program/program.h"

namespace imhotep::program {

// Requires: a program of Phase::Generate. Returns it unchanged where nothing suits.
[[nodiscard]] Program lower_decode(Program program);

}  // namespace imhotep::program
