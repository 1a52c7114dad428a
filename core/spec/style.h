#pragma once
// How a system carries out the operations of a plan: its execution style. The executor knows its
// own; the simulator prices the others (simulator/styles), so that "what would it take there" is
// one option. Sources and figures: docs/cost/styles.md.

#include <cstdint>

#include "core/base/enum_names.h"

namespace imhotep {

enum class ExecutionStyle : std::uint8_t {
  Imhotep,
  Gshard,              // compiled, one-hot einsum over padded slots
  Fairseq,             // eager, one-hot einsum, an expert at a time
  Switch,              // as GShard
  Fastmoe,             // eager, rows as they fall, an expert at a time
  Tutel,               // eager, sparse dispatch into slots, batched experts, two-level exchange
  DeepspeedTraining,   // as fairseq
  DeepspeedInference,  // fused kernels, slots without einsum, coordinated or two-level exchange
  Pytorch,             // the baseline of the DeepSpeed-MoE paper: eager, padded einsum
};

}  // namespace imhotep

IMHOTEP_ENUM_NAMES(imhotep::ExecutionStyle, {imhotep::ExecutionStyle::Imhotep, "imhotep"},
                   {imhotep::ExecutionStyle::Gshard, "gshard"},
                   {imhotep::ExecutionStyle::Fairseq, "fairseq"},
                   {imhotep::ExecutionStyle::Switch, "switch"},
                   {imhotep::ExecutionStyle::Fastmoe, "fastmoe"},
                   {imhotep::ExecutionStyle::Tutel, "tutel"},
                   {imhotep::ExecutionStyle::DeepspeedTraining, "deepspeed-training"},
                   {imhotep::ExecutionStyle::DeepspeedInference, "deepspeed-inference"},
                   {imhotep::ExecutionStyle::Pytorch, "pytorch"})
