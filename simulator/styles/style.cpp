#include "simulator/styles/style.h"

namespace imhotep::simulator {
namespace {

// Megatron's layers and the gate of DeepSpeed's sharded_moe.py, call by call.
constexpr HostCalls kEager{.norm = 1,
                           .product = 3,
                           .attention = 14,
                           .cached_attention = 24,
                           .gate = 4,
                           .route = 44,
                           .dispatch = 8,
                           .exchange = 6,
                           .expert = 2,
                           .around_experts = 2,
                           .combine = 9,
                           .other = 2,
                           .head = 4};
// DeepSpeed's ds_attention.py and moe_inference.py with the fused gate of the paper's section 5.4.
constexpr HostCalls kFused{.norm = 1,
                           .product = 1,
                           .attention = 2,
                           .cached_attention = 2,
                           .gate = 3,
                           .route = 7,
                           .dispatch = 2,
                           .exchange = 3,
                           .expert = 2,
                           .around_experts = 1.5,
                           .combine = 3,
                           .other = 1,
                           .head = 2};
// Layers as in kEager; custom kernels place rows.
constexpr HostCalls kEagerSparse{.norm = 1,
                                 .product = 3,
                                 .attention = 14,
                                 .cached_attention = 24,
                                 .gate = 4,
                                 .route = 20,
                                 .dispatch = 3,
                                 .exchange = 6,
                                 .expert = 2,
                                 .around_experts = 2,
                                 .combine = 3,
                                 .other = 2,
                                 .head = 4};

constexpr StyleTraits kCompiledEinsum{.einsum = true,
                                      .slots = true,
                                      .by_sequence = true,
                                      .plain_attention = true,
                                      .experts = ExpertsAs::Batched};
constexpr StyleTraits kEagerEinsum{.eager = true,
                                   .waits_in_gate = true,
                                   .einsum = true,
                                   .slots = true,
                                   .duplicates = true,
                                   .plain_attention = true,
                                   .peer_by_peer = true,
                                   .experts = ExpertsAs::Each,
                                   .calls = kEager};
constexpr StyleTraits kFastmoe{.eager = true,
                               .waits_in_gate = true,
                               .plain_attention = true,
                               .peer_by_peer = true,
                               .experts = ExpertsAs::Each,
                               .calls = kEagerSparse};
constexpr StyleTraits kTutel{.eager = true,
                             .slots = true,
                             .plain_attention = true,
                             .chooses_two_level = true,
                             .peer_by_peer = true,
                             .chunks = 4,
                             .experts = ExpertsAs::Batched,
                             .calls = kEagerSparse};
constexpr StyleTraits kDeepspeedInference{.eager = true,
                                          .slots = true,
                                          .chooses_two_level = true,
                                          .experts = ExpertsAs::Each,
                                          .calls = kFused};
constexpr StyleTraits kImhotep{};

}  // namespace

const StyleTraits& traits_of(ExecutionStyle style) {
  switch (style) {
    case ExecutionStyle::Imhotep:
      return kImhotep;
    case ExecutionStyle::Gshard:
    case ExecutionStyle::Switch:
      return kCompiledEinsum;
    case ExecutionStyle::Fairseq:
    case ExecutionStyle::DeepspeedTraining:
    case ExecutionStyle::Pytorch:
      return kEagerEinsum;
    case ExecutionStyle::Fastmoe:
      return kFastmoe;
    case ExecutionStyle::Tutel:
      return kTutel;
    case ExecutionStyle::DeepspeedInference:
      return kDeepspeedInference;
  }
  return kImhotep;
}

}  // namespace imhotep::simulator
