// Patterns are recognised in the order of issue, by family and by who reads whose output; the
// routed block has a file of its own (lower_routed.cpp).

#include "core/program/lower_decode.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "core/base/few_rows.h"
#include "core/program/lower_routed.h"

namespace imhotep::program {
namespace {

using Window = std::span<const Operation>;

class Lowering {
 public:
  explicit Lowering(Program& program) : p_(program), routed_(program) {}

  void run() {
    const std::vector<Operation> plain = std::move(p_.operations);
    p_.operations.clear();
    for (std::size_t i = 0; i < plain.size();) {
      const Window rest(plain.begin() + static_cast<std::ptrdiff_t>(i), plain.end());
      std::size_t taken = norm_product(rest);
      if (taken == 0) taken = routed_(rest);
      if (taken == 0) {
        p_.operations.push_back(plain[i]);
        taken = 1;
      }
      i += taken;
    }
  }

 private:
  // Appends an operation in the place of `old`.
  void put(const Operation& old, const char* name, Shape shape, Operands inputs, Operands outputs) {
    Operation op = old;
    op.name = name;
    op.shape = shape;
    op.inputs = inputs;
    op.outputs = outputs;
    p_.operations.push_back(op);
  }

  static const char* fused_name(std::string_view product) {
    if (product == "qkv") return "ln1_qkv";
    if (product == "mlp_up") return "mlp_ln2_up";
    return "final_ln_head";
  }

  // How many operations were replaced.
  std::size_t norm_product(Window rest) {
    if (rest.size() < 2) return 0;
    const auto* norm = std::get_if<LayerNorm>(&rest[0].shape);
    const auto* product = std::get_if<Gemm>(&rest[1].shape);
    if (norm == nullptr || product == nullptr) return 0;
    const bool plain = product->transpose_b && !product->transpose_a && !product->accumulate &&
                       !product->wide && !product->wide_a && !product->wide_b;
    const bool fusable = product->epilogue == Epilogue::None ||
                         product->epilogue == Epilogue::Bias ||
                         product->epilogue == Epilogue::BiasGelu;
    const BufferId normed = rest[0].outputs[0].buffer;
    if (!plain || !fusable || !suits_few_rows(norm->rows, norm->hidden) ||
        rest[1].inputs[0].buffer != normed || read_later(rest.subspan(2), normed)) {
      return 0;
    }
    const bool bias = product->epilogue != Epilogue::None;
    put(rest[1], fused_name(rest[1].name),
        NormGemm{
            .rows = product->m, .n = product->n, .k = product->k, .epilogue = product->epilogue},
        {rest[0].inputs[0], rest[0].inputs[1], rest[0].inputs[2], rest[1].inputs[1],
         bias ? rest[1].inputs[2] : Operand{}},
        {rest[1].outputs[0]});
    return 2;
  }

  static bool read_later(Window rest, BufferId buffer) {
    return std::any_of(rest.begin(), rest.end(), [&](const Operation& op) {
      return std::any_of(op.inputs.begin(), op.inputs.end(),
                         [&](const Operand& in) { return in.buffer == buffer; });
    });
  }

  Program& p_;
  RoutedLowering routed_;
};

}  // namespace

Program lower_decode(Program program) {
  if (program.rows > kFewRows) return program;
  Lowering(program).run();
  for (Buffer& buffer : program.buffers) buffer.offset = 0;
  find_lifetimes(program);
  place_buffers(program);
  return program;
}

}  // namespace imhotep::program
