// A block is recognised by its families in the order of issue and by who reads whose output.

#include "core/program/lower_stack.h"

#include <span>
#include <utility>

#include "core/base/few_rows.h"

namespace imhotep::program {
namespace {

using Window = std::span<const Operation>;

bool same(const Operand& a, const Operand& b) {
  return a.buffer == b.buffer && a.offset == b.offset;
}

// A block at the beginning of a window.
struct Block {
  std::size_t taken = 0;  // operations; 0: there is none
  AttentionCached attention;
  DecodeLayer layer;
  Operand x, y, used;
  Operands tables;           // positions, sequences, block table
  Operands inputs, outputs;  // of the layer, as operands.md has them
};

class Reader {
 public:
  explicit Reader(Window rest) : rest_(rest) {}

  Block read() {
    if (!attention() || !(dense() || routed())) return {};
    const std::int64_t h = b_.attention.heads * b_.attention.head_dim;
    const bool suits =
        suits_decode_stack(b_.attention.rows, b_.layer.k, h, b_.layer.ffn, b_.layer.experts) &&
        (b_.attention.head_dim == 64 || b_.attention.head_dim == 128);
    return suits ? std::move(b_) : Block{};
  }

 private:
  template <class T>
  const T* shape(std::size_t i) const {
    return i < rest_.size() ? std::get_if<T>(&rest_[i].shape) : nullptr;
  }
  // Operation i is a product with bias of `from`, added to `x`.
  [[nodiscard]] bool adds(std::size_t i, const Operand& from, const Operand& x) const {
    const auto* g = shape<Gemm>(i);
    return g != nullptr && g->epilogue == Epilogue::BiasResidual && g->transpose_b &&
           !g->transpose_a && !g->accumulate && !g->wide && !g->wide_a && !g->wide_b &&
           same(rest_[i].inputs[0], from) && same(rest_[i].inputs[3], x);
  }

  bool attention() {
    const auto* qkv = shape<NormGemm>(0);
    const auto* attend = shape<AttentionCached>(1);
    if (qkv == nullptr || qkv->epilogue != Epilogue::Bias || attend == nullptr) return false;
    const Operands &in = rest_[0].inputs, &cached = rest_[1].inputs;
    if (!same(cached[0], rest_[0].outputs[0]) || !adds(2, rest_[1].outputs[0], in[0])) return false;
    b_.attention = *attend;
    b_.x = in[0];
    b_.tables = {cached[1], cached[2], cached[3]};
    middle_ = rest_[2].outputs[0];
    const Operands& projection = rest_[2].inputs;
    b_.inputs = {in[1], in[2], in[3], in[4], projection[1], projection[2]};
    b_.outputs = {cached[4], cached[5]};
    return true;
  }

  bool dense() {
    const auto* up = shape<NormGemm>(3);
    if (up == nullptr || up->epilogue != Epilogue::BiasGelu) return false;
    const Operands& in = rest_[3].inputs;
    if (!same(in[0], middle_) || !adds(4, rest_[3].outputs[0], middle_)) return false;
    b_.layer = {.ffn = up->n};
    for (const Operand& operand :
         {in[1], in[2], in[3], in[4], rest_[4].inputs[1], rest_[4].inputs[2]}) {
      b_.inputs.add(operand);
    }
    b_.y = rest_[4].outputs[0];
    b_.taken = 5;
    return true;
  }

  bool routed() {
    const auto* gate = shape<NormGate>(3);
    const auto* up = shape<FewExpertsUp>(4);
    const auto* down = shape<FewExpertsDown>(5);
    if (gate == nullptr || up == nullptr || down == nullptr) return false;
    const Operands &g = rest_[3].inputs, &u = rest_[4].inputs, &d = rest_[5].inputs;
    if (!same(g[0], middle_) || !same(d[0], middle_) ||
        gate->mlp != (down->residual ? up->ffn : 0)) {
      return false;
    }
    b_.layer = {.ffn = up->ffn,
                .experts = up->experts,
                .k = up->k,
                .residual = down->residual,
                .active = up->active};
    const bool mlp = down->residual;
    for (const Operand& operand :
         {g[1], g[2], mlp ? g[6] : Operand{}, mlp ? g[7] : Operand{}, mlp ? d[7] : Operand{},
          mlp ? d[8] : Operand{}, g[3], mlp ? g[4] : Operand{}, mlp ? g[5] : Operand{}, u[3], u[4],
          d[4], d[5], g.size() > 8 ? g[8] : Operand{}}) {
      b_.inputs.add(operand);
    }
    for (std::size_t i = 1; i <= 3; ++i) b_.outputs.add(rest_[4].outputs[i]);
    b_.used = u[2];
    b_.y = rest_[5].outputs[0];
    b_.taken = 6;
    return true;
  }

  Window rest_;
  Block b_;
  Operand middle_;
};

bool alike(const AttentionCached& a, const AttentionCached& b) {
  return a.rows == b.rows && a.heads == b.heads && a.head_dim == b.head_dim &&
         a.page_size == b.page_size && a.max_pages == b.max_pages;
}

void append_padded(Operands& to, const Operands& from, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to.add(i < from.size() ? from[i] : Operand{});
}

// One operation of all blocks that follow each other from the window's beginning.
struct Stack {
  Operation operation;
  std::size_t taken = 0;

  explicit Stack(Window rest) {
    DecodeStack shape;
    Operands layers, outputs;
    Operand x, y, used;
    Operands tables;
    for (;;) {
      const Block block = Reader(rest.subspan(taken)).read();
      if (block.taken == 0) break;
      if (taken > 0 && !(same(block.x, y) && alike(block.attention, shape.attention))) break;
      if (taken == 0) {
        shape.attention = block.attention;
        x = block.x;
        tables = block.tables;
      }
      if (block.used.valid()) used = block.used;
      y = block.y;
      shape.layers.push_back(block.layer);
      append_padded(layers, block.inputs, kStackInputs);
      append_padded(outputs, block.outputs, kStackOutputs);
      taken += block.taken;
    }
    if (taken == 0) return;
    operation = rest[0];
    operation.name = "decode_stack";
    operation.layer = -1;
    operation.shape = std::move(shape);
    operation.inputs = {x, tables[0], tables[1], tables[2], used};
    for (const Operand& operand : layers) operation.inputs.add(operand);
    operation.outputs = {y};
    for (const Operand& operand : outputs) operation.outputs.add(operand);
  }
};

}  // namespace

Program lower_stack(Program program) {
  const std::vector<Operation> stages = std::move(program.operations);
  program.operations.clear();
  for (std::size_t i = 0; i < stages.size();) {
    Stack stack{Window(stages).subspan(i)};
    if (stack.taken == 0) {
      program.operations.push_back(stages[i++]);
      continue;
    }
    program.operations.push_back(std::move(stack.operation));
    i += stack.taken;
  }
  for (Buffer& buffer : program.buffers) {
    buffer.first_use = buffer.last_use = -1;
    buffer.offset = 0;
  }
  place_buffers(program);
  return program;
}

}  // namespace imhotep::program
