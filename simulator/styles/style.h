#pragma once
// What tells execution styles apart, as data, and the constants fitted for all of them.
// Sources, counting of calls and fits: docs/cost/styles.md.

#include "core/spec/style.h"

namespace imhotep::simulator {

enum class ExpertsAs : std::uint8_t {
  Grouped,  // one product over the rows of all experts
  Batched,  // one product over equally many slots of all experts
  Each,     // a product an expert, one after the other
};

// Calls of a framework that the host makes for one operation of a program. Counted in released
// code, not fitted.
struct HostCalls {
  double norm = 1, product = 1, attention = 1, cached_attention = 1;
  double gate = 1, route = 1, dispatch = 1, exchange = 1;
  double expert = 1;          // for one product of one expert
  double around_experts = 0;  // cutting rows into experts, or joining them
  double combine = 1, other = 1, head = 1;
};

struct StyleTraits {
  bool eager = false;            // the host issues every call while the device works
  bool waits_in_gate = false;    // and reads a result of the gate before it goes on
  bool einsum = false;           // dispatch and combine multiply by masks tokens x experts x slots
  bool slots = false;            // an expert gets `capacity` slots from every source, filled or not
  bool by_sequence = false;      // slots and masks are made for each sequence, not for all tokens
  bool duplicates = false;       // every rank of a tensor group sends all tokens of the group
  bool plain_attention = false;  // scores lie in memory; a cache is copied when it grows
  bool chooses_two_level = false;  // takes the two-level exchange where it is faster
  bool peer_by_peer = false;       // exchanges are a send and a receive a peer, kPeerUs each
  int chunks = 1;                  // in which experts work while others travel
  ExpertsAs experts = ExpertsAs::Grouped;
  HostCalls calls;
};
[[nodiscard]] const StyleTraits& traits_of(ExecutionStyle style);

// The fitted constants: four of the six allowed.
struct StyleConstants {
  // Of one call of an eager framework on the host, and of a message to a peer on another node
  // beside the link's latency, in an exchange made of sends and receives. Source: the ten times of
  // figure 10 of DeepSpeed-MoE (arXiv 2201.05596), fitted by tests/bench/paper_tables.cpp.
  double host_call_us = 22.0;
  double peer_us = 6.0;
};
inline constexpr double kHostCallWidth = 0.15;  // half-width of 90 % as a logarithm, from the same
inline constexpr double kPeerWidth = 0.7;
// Of an element of a mask in training: the mask with its copies and gradients. Source: memory of
// one layer in Tutel (arXiv 2206.03382), fairseq, 32,768 tokens.
inline constexpr double kMaskBytes = 26.0;
// Context and libraries beside the tensors of a program. Source: the same, Tutel, 4,096 tokens.
inline constexpr double kContextBytes = 1.6e9;

}  // namespace imhotep::simulator
