#pragma once
// The routed block of a generation step of few rows as fused families. Internal to lower_decode.
//
// One rank holds all experts: norm_gate, few_experts_up, few_experts_down.
// Experts sliced over the tensor group: the same on slices, and one sum of the block's results
//   instead of one for the experts and one for the residual branch.
// Experts spread over ranks with tokens of their own (flat exchange): few tokens weigh less than
//   what counts and two exchanges cost, so every rank gathers the tokens of all, chooses those of
//   its experts by itself, and the partial results are summed where the tokens are at home:
//     all_gather, norm_gate, few_experts_up, few_experts_down, reduce_scatter
//   The branch beside the experts reads the same weights for all tokens as for a rank's own.

#include <map>
#include <span>

#include "core/program/program.h"

namespace imhotep::program {

class RoutedLowering {
 public:
  explicit RoutedLowering(Program& program) : p_(program) {}
  // `rest`: the operations still to come. Appends what replaces the routed block that they begin
  // with, and returns how many it takes the place of; 0: none.
  std::size_t operator()(std::span<const Operation> rest);

 private:
  struct Block;
  struct Widths;
  void lower(const Block& block, const Widths& widths);
  void put(const Operation& old, const char* name, Shape shape, Operands inputs, Operands outputs);
  [[nodiscard]] Operand like(Operand old, std::int64_t elements, const char* name);
  [[nodiscard]] Operand gathered_used(const Block& block, std::int64_t tokens);

  Program& p_;
  std::map<std::int64_t, Operand> used_;  // by group: who takes part, of all its ranks
};

}  // namespace imhotep::program
