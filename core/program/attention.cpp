// The attention half of a block:  y = x + projection(attention(qkv(norm(x)))).
// Tensor slicing: qkv is cut by heads (columns), the projection by rows; the partial results are
// summed over the tensor group. Only tensor index 0 adds the bias and the residual, so the sum
// holds each once.

#include "core/program/builder.h"

namespace imhotep::program {
namespace {

Operand projected(Builder& b, Operand context, Operand x) {
  const Operand y = b.data("attention_out", b.T * b.h);
  const bool adds = b.t_index == 0;
  b.op("projection",
       Gemm{.m = b.T,
            .n = b.h,
            .k = b.h / b.t,
            .transpose_b = true,
            .epilogue = adds ? Epilogue::BiasResidual : Epilogue::None},
       {context, b.weight(TensorRole::ProjectionWeight),
        adds ? b.weight(TensorRole::ProjectionBias) : Operand{}, adds ? x : Operand{}},
       {y});
  b.all_reduce("projection_sum", y, b.T * b.h, b.tensor_peers());
  return y;
}

Operand normed_qkv(Builder& b, Operand x, AttentionKept& kept) {
  kept.x = x;
  kept.n = b.data("n1", b.T * b.h);
  kept.mean = b.wides("mean1", b.T);
  kept.rstd = b.wides("rstd1", b.T);
  b.op("ln1", LayerNorm{b.T, b.h},
       {x, b.weight(TensorRole::Ln1Gain), b.weight(TensorRole::Ln1Bias)},
       {kept.n, kept.mean, kept.rstd});
  const std::int64_t width = 3 * b.h / b.t;
  kept.qkv = b.data("qkv", b.T * width);
  b.op("qkv", Gemm{.m = b.T, .n = width, .k = b.h, .transpose_b = true, .epilogue = Epilogue::Bias},
       {kept.n, b.weight(TensorRole::QkvWeight), b.weight(TensorRole::QkvBias)}, {kept.qkv});
  return kept.qkv;
}

}  // namespace

Operand attention_forward(Builder& b, Operand x, std::int64_t sequence, AttentionKept& kept) {
  const Operand qkv = normed_qkv(b, x, kept);
  const Attention shape{b.T / sequence, b.heads, sequence, b.head_dim};
  kept.context = b.data("context", b.T * b.h / b.t);
  kept.lse = b.wides("lse", b.T * b.heads);
  b.op("attention", shape, {qkv},
       {kept.context, kept.lse, b.attention_scratch(attention_scratch_elements(shape))});
  return projected(b, kept.context, x);
}

Operand attention_cached(Builder& b, Operand x, const GenerateShape& s) {
  AttentionKept kept;
  const Operand qkv = normed_qkv(b, x, kept);
  const std::int64_t page = b.plan.page_size, pages = (s.max_context + page - 1) / page;
  const std::int64_t held = s.pages > 0 ? s.pages : s.sequences * pages;
  const std::int64_t pool = held * page * b.h / b.t;
  const AttentionCached shape{.rows = b.T,
                              .heads = b.heads,
                              .head_dim = b.head_dim,
                              .page_size = page,
                              .max_pages = pages,
                              .context = s.context,
                              .sequences = s.sequences};
  const Operand keys = b.buffer("keys", pool, b.plan.dtype, BufferKind::Kv);
  const Operand values = b.buffer("values", pool, b.plan.dtype, BufferKind::Kv);
  const Operand context = b.data("context", b.T * b.h / b.t);
  b.op("attention", shape,
       {qkv, b.input_named("positions"), b.input_named("sequences"), b.input_named("block_table"),
        keys, values},
       {context, keys, values, b.attention_scratch(attention_cached_scratch_elements(shape))});
  return projected(b, context, x);
}

void attention_backward(Builder& b, Operand dx, std::int64_t sequence, const AttentionKept& kept) {
  const std::int64_t T = b.T, h = b.h, part = b.h / b.t;
  b.weight_grad("projection_weight_grad", {.m = h, .n = part, .k = T}, {dx, kept.context},
                {b.gradient(TensorRole::ProjectionWeight), b.gradient(TensorRole::ProjectionBias)});
  const Operand d_context = b.data("d_context", T * part);
  b.op("projection_input_grad", Gemm{.m = T, .n = part, .k = h},
       {dx, b.weight(TensorRole::ProjectionWeight)}, {d_context});
  const AttentionGrad shape{T / sequence, b.heads, sequence, b.head_dim};
  const Operand d_qkv = b.data("d_qkv", T * 3 * part);
  b.op("attention_grad", shape, {kept.qkv, kept.context, kept.lse, d_context},
       {d_qkv, b.attention_scratch(attention_scratch_elements(shape))});
  b.weight_grad("qkv_weight_grad", {.m = 3 * part, .n = h, .k = T}, {d_qkv, kept.n},
                {b.gradient(TensorRole::QkvWeight), b.gradient(TensorRole::QkvBias)});
  const Operand dn = b.data("dn1", T * h);
  b.op("qkv_input_grad", Gemm{.m = T, .n = h, .k = 3 * part},
       {d_qkv, b.weight(TensorRole::QkvWeight)}, {dn});
  b.all_reduce("qkv_input_grad_sum", dn, T * h, b.tensor_peers());
  b.op("ln1_grad", LayerNormGrad{.rows = T, .hidden = h},
       {dn, kept.x, b.weight(TensorRole::Ln1Gain), kept.mean, kept.rstd},
       {dx, b.gradient(TensorRole::Ln1Gain), b.gradient(TensorRole::Ln1Bias)});
}

}  // namespace imhotep::program
