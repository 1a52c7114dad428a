#pragma once
// The pencil with which the listings of a step are written: names buffers, finds weights and
// groups, appends operations. Internal to core/program.

#include <map>
#include <string_view>
#include <utility>

#include "core/base/scratch.h"
#include "core/layout/groups.h"
#include "core/program/build.h"

namespace imhotep::program {

class Builder {
 public:
  Builder(const Plan& plan, Rank rank, Phase phase, std::int64_t rows);

  const Plan& plan;
  const ModelSpec& model;
  const Rank rank;
  // Sizes every listing needs. Rows T, hidden h, tensor degree t and index, held heads and ffn.
  std::int64_t T, h, t, t_index, heads, head_dim, f, vocab;
  Dtype wide;
  int layer = -1;
  Pass pass = Pass::Forward;
  double used = 1;  // expected share of rows that hold a token: others choose no expert

  // ---- buffers
  Operand buffer(const char* name, std::int64_t elements, Dtype dtype,
                 BufferKind kind = BufferKind::Activation);
  Operand data(const char* name, std::int64_t elements) { return buffer(name, elements, dtype_); }
  Operand wides(const char* name, std::int64_t elements) { return buffer(name, elements, wide); }
  Operand table(const char* name, std::int64_t elements) {
    return buffer(name, elements, Dtype::I32);
  }
  Operand scratch(std::int64_t elements) {
    return buffer("scratch", elements, dtype_, BufferKind::Scratch);
  }
  // CUDA kernels of attention use the workspace.
  Operand attention_scratch(std::int64_t elements) {
    return plan.device == DeviceKind::Cuda ? Operand{} : scratch(elements);
  }
  Operand input(const char* name, std::int64_t elements, Dtype dtype) {
    inputs_.push_back(buffer(name, elements, dtype, BufferKind::Input));
    return inputs_.back();
  }
  // An input made before; an invalid operand if there is none of that name.
  Operand input_named(std::string_view name) const;

  // ---- weights and their gradients, in the current layer
  Operand weight(TensorRole role) const { return slot(role, program_.region_weights); }
  Operand gradient(TensorRole role) const { return slot(role, program_.region_gradients); }
  // Gradients of matrices and of the biases of dense products: added to earlier micro-batches,
  // written by the first one.
  bool accumulate = true;

  // ---- operations
  void op(const char* name, Shape shape, Operands inputs, Operands outputs);
  // c[m,n] (+)= d[k,m]ᵀ · a[k,n] and the sums of d's columns: outputs weight's and bias' gradient.
  void weight_grad(const char* name, Gemm sizes, Operands inputs, Operands outputs) {
    sizes.transpose_a = true;
    sizes.epilogue = Epilogue::BiasGrad;
    sizes.accumulate = accumulate;
    op(name, sizes, inputs, outputs);
  }
  // A group of one needs no communication: nothing is appended.
  void communicate(const char* name, Shape shape, const Members& members, Operands inputs,
                   Operands outputs);
  // For exchanges, which are appended whatever the size of the group.
  void exchange(const char* name, Shape shape, const Members& members, Operands inputs,
                Operands outputs);
  void all_reduce(const char* name, Operand x, std::int64_t elements, const Members& members) {
    communicate(name, AllReduce{elements}, members, {x}, {x});
  }

  Members tensor_peers() const { return tensor_group(plan, rank); }
  Program& program() { return program_; }
  // Without `place` the lifetimes of buffers are known, but not where they lie.
  Program finish(bool place = true);

 private:
  Operand slot(TensorRole role, const std::vector<BufferId>& regions) const;
  GroupId group(const Members& members);
  void drop_unread_recomputation();

  Program program_;
  Dtype dtype_;
  std::vector<std::array<const LocalTensor*, 32>> tensors_;  // by layer + 1 and role
  std::map<Members, GroupId> groups_;
  std::vector<Operand> inputs_;
};

inline Operand shifted(Operand operand, std::int64_t elements) {
  operand.offset += elements;
  return operand;
}

// ---- the listings (attention.cpp, mlp.cpp, moe.cpp, head.cpp)

struct AttentionKept {
  Operand x, n, mean, rstd, qkv, context, lse;
};
struct MlpKept {
  Operand n, pre, hidden;  // n: the normed input, shared with the gate
};
struct RoutedKept {
  ExchangePlace place;
  TokenRange tokens;
  std::int64_t share_rows = 0, pack_rows = 0, receive_rows = 0, capacity = 0;
  Rows sent, received;
  bool exchanged = false, permuted = false, gathers = false;
  Operand probs, expert, weight, stats, order, position, segments, counts, counts_in, offsets,
      index, range, rows, pre, hidden, returned;
};
struct BlockKept {
  Operand x, n, mean, rstd;  // second norm
  MlpKept mlp;
  RoutedKept routed;
  Operand moe_out, mlp_out, coefficient;
};

// x -> y. Each appends its forward operations and says what the backward listing needs.
Operand attention_forward(Builder& b, Operand x, std::int64_t sequence, AttentionKept& kept);
Operand attention_cached(Builder& b, Operand x, const GenerateShape& shape);
Operand mlp_block_forward(Builder& b, Operand x, BlockKept& kept, bool training, Operand stats);
// dx holds dL/dy and receives dL/dx in place.
void attention_backward(Builder& b, Operand dx, std::int64_t sequence, const AttentionKept& kept);
void mlp_block_backward(Builder& b, Operand dx, const BlockKept& kept);

// Parts of the MLP block.
Operand mlp_forward(Builder& b, Operand n, Operand residual, MlpKept& kept);
void mlp_backward(Builder& b, Operand dy, const MlpKept& kept, Operand dn);
Operand routed_forward(Builder& b, Operand n, RoutedKept& kept, bool training, Operand stats);
void routed_backward(Builder& b, Operand dy, Operand n, const RoutedKept& kept, Operand dn);

Operand embedding_forward(Builder& b, Operand tokens, Operand positions);
// Loss, its gradient with respect to x, and that of the head's weights; chunks of rows, so that
// all logits never exist at once. Returns dx.
Operand head_train(Builder& b, Operand x, Operand targets);
void head_evaluate(Builder& b, Operand x, Operand targets);
// The next token of the rows listed in the input "sample_rows".
void head_generate(Builder& b, Operand x, std::int64_t samples);

}  // namespace imhotep::program
