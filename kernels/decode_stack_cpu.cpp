// The stages one after the other, by the CPU forms of their families.

#include "kernels/decode_stack.h"

#include <cstddef>
#include <vector>

#include "kernels/attention_cached.h"
#include "kernels/few_experts.h"
#include "kernels/gemm.h"
#include "kernels/norm_gate.h"
#include "kernels/norm_gemm.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
class Stack {
 public:
  Stack(const DecodeStack& shape, const DecodeStackOperands& operands)
      : a_(shape.attention), o_(operands), rows_(a_.rows), h_(a_.heads * a_.head_dim) {}

  void run(const DecodeLayer& s, const DecodeLayerOperands& l, const T* x, T* y) {
    std::vector<T> qkv(size(3 * h_)), ctx(size(h_)), between(size(h_));
    std::vector<std::byte> scratch(static_cast<std::size_t>(attention_cached_scratch_elements(a_) *
                                                            static_cast<std::int64_t>(sizeof(T))));
    norm_gemm<T>({.rows = rows_, .n = 3 * h_, .k = h_, .epilogue = Epilogue::Bias},
                 {.x = x,
                  .gain = l.gain1,
                  .shift = l.shift1,
                  .b = l.qkv,
                  .bias = l.qkv_bias,
                  .c = qkv.data()});
    attention_cached<T>(a_, {.qkv = qkv.data(),
                             .positions = o_.positions,
                             .sequences = o_.sequences,
                             .block_table = o_.block_table,
                             .k_pages = l.k_pages,
                             .v_pages = l.v_pages,
                             .ctx = ctx.data(),
                             .scratch = scratch.data()});
    product(ctx.data(), l.proj, l.proj_bias, x, h_, between.data());
    if (s.experts == 0) return dense(s, l, between.data(), y);
    routed(s, l, between.data(), y);
  }

 private:
  [[nodiscard]] std::size_t size(std::int64_t width) const {
    return static_cast<std::size_t>(rows_ * width);
  }
  // y = x w^T + bias + addend
  void product(const T* x, const void* w, const void* bias, const T* addend, std::int64_t k, T* y) {
    gemm<T>({.m = rows_, .n = h_, .k = k, .transpose_b = true, .epilogue = Epilogue::BiasResidual},
            {.a = x, .b = w, .bias = bias, .addend = addend, .c = y});
  }
  void dense(const DecodeLayer& s, const DecodeLayerOperands& l, const T* x, T* y) {
    std::vector<T> hidden(size(s.ffn));
    norm_gemm<T>({.rows = rows_, .n = s.ffn, .k = h_, .epilogue = Epilogue::BiasGelu},
                 {.x = x,
                  .gain = l.gain2,
                  .shift = l.shift2,
                  .b = l.up,
                  .bias = l.up_bias,
                  .c = hidden.data()});
    product(hidden.data(), l.down, l.down_bias, x, s.ffn, y);
  }
  void routed(const DecodeLayer& s, const DecodeLayerOperands& l, const T* x, T* y) {
    std::vector<T> n(size(h_)), logits(size(s.experts)), coefficients(size(2)), mlp(size(s.ffn)),
        hidden(size(s.k * s.ffn));
    norm_gate<T>({rows_, h_, s.experts, s.residual ? s.ffn : 0},
                 {.x = x,
                  .gain = l.gain2,
                  .shift = l.shift2,
                  .gate = l.gate,
                  .coefficient = l.coefficient,
                  .coefficient_bias = l.coefficient_bias,
                  .up = l.up,
                  .up_bias = l.up_bias,
                  .n = n.data(),
                  .logits = logits.data(),
                  .coefficients = coefficients.data(),
                  .mlp_hidden = mlp.data()});
    if (l.noise != nullptr) {
      const T* noise = static_cast<const T*>(l.noise);
      for (std::size_t i = 0; i < logits.size(); ++i) logits[i] += noise[i];
    }
    few_experts_up<T>({rows_, s.experts, s.k, h_, s.ffn, s.active}, {.n = n.data(),
                                                                     .logits = logits.data(),
                                                                     .used = o_.used,
                                                                     .up = l.experts_up,
                                                                     .up_bias = l.experts_up_bias,
                                                                     .hidden = hidden.data(),
                                                                     .expert = l.expert,
                                                                     .weight = l.weight,
                                                                     .stats = l.stats});
    few_experts_down<T>({rows_, s.experts, s.k, h_, s.ffn, s.residual, s.active},
                        {.x = x,
                         .expert_hidden = hidden.data(),
                         .expert = l.expert,
                         .weight = l.weight,
                         .down = l.experts_down,
                         .down_bias = l.experts_down_bias,
                         .mlp_hidden = mlp.data(),
                         .mlp_down = l.down,
                         .mlp_bias = l.down_bias,
                         .coefficients = coefficients.data(),
                         .y = y});
  }

  const AttentionCached& a_;
  const DecodeStackOperands& o_;
  std::int64_t rows_, h_;
};

}  // namespace

template <class T>
void decode_stack(const DecodeStack& s, const DecodeStackOperands& o) {
  Stack<T> stack(s, o);
  const T* x = static_cast<const T*>(o.x);
  std::vector<T> from;
  const std::size_t layers = s.layers.size();
  const auto size =
      static_cast<std::size_t>(s.attention.rows * s.attention.heads * s.attention.head_dim);
  std::vector<T> to(size);
  for (std::size_t i = 0; i < layers; ++i) {
    const bool last = i + 1 == layers;
    stack.run(s.layers[i], o.layers[i], x, last ? static_cast<T*>(o.y) : to.data());
    from.swap(to);
    to.resize(size);
    x = from.data();
  }
}
template void decode_stack<float>(const DecodeStack& shape, const DecodeStackOperands& operands);
template void decode_stack<double>(const DecodeStack& shape, const DecodeStackOperands& operands);

}  // namespace imhotep::kernels::cpu
