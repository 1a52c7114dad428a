// Embeddings, and the tied head with its loss. The vocabulary is cut over the tensor group: each
// rank looks up, scores and differentiates its own words; softmax statistics are combined.

#include <algorithm>

#include "core/program/builder.h"

namespace imhotep::program {
namespace {

// Rows scored at once: large enough for an efficient product, small enough that logits stay a
// small part of the activations. A GPU needs more rows to be busy, and each chunk reads and writes
// the gradient of the whole table.
std::int64_t head_rows(const Builder& b) {
  const std::int64_t most = b.plan.device == DeviceKind::Cuda ? 4096 : 512;
  return std::min(most, b.T);
}

struct Chunk {
  Operand logits, stats;
  std::int64_t rows, first;
};

Operand final_norm(Builder& b, Operand x, std::int64_t rows, Operand& mean, Operand& rstd) {
  b.layer = -1;
  const Operand n = b.data("final_n", rows * b.h);
  mean = b.wides("final_mean", rows);
  rstd = b.wides("final_rstd", rows);
  b.op("final_ln", LayerNorm{rows, b.h},
       {x, b.weight(TensorRole::FinalGain), b.weight(TensorRole::FinalBias)}, {n, mean, rstd});
  return n;
}

// Logits of a chunk and the softmax statistics of all vocabulary parts.
Chunk score(Builder& b, Operand n, Operand targets, std::int64_t first, std::int64_t rows,
            Operand logits) {
  Chunk chunk{.logits = logits, .stats = {}, .rows = rows, .first = first};
  b.op("head", Gemm{.m = rows, .n = b.vocab, .k = b.h, .transpose_b = true},
       {shifted(n, first * b.h), b.weight(TensorRole::TokenEmbedding)}, {logits});
  chunk.stats = b.wides("head_stats", rows * 3);
  b.op("softmax_stats",
       SoftmaxStats{.rows = rows,
                    .cols = b.vocab,
                    .vocab_begin = b.vocab * b.t_index,
                    .valid = b.model.vocab},
       {logits, shifted(targets, first)}, {chunk.stats});
  if (b.t > 1) {
    const Operand all = b.wides("head_stats_all", b.t * rows * 3);
    b.communicate("head_stats_gather", AllGather{rows * 3}, b.tensor_peers(), {chunk.stats}, {all});
    chunk.stats = all;
  }
  return chunk;
}

CrossEntropy loss_shape(const Builder& b, std::int64_t rows, bool gradient) {
  const double tokens = static_cast<double>(b.T * b.plan.data * b.plan.accumulation);
  return {.rows = rows,
          .cols = b.vocab,
          .parts = b.t,
          .vocab_begin = b.vocab * b.t_index,
          .valid = b.model.vocab,
          .gradient = gradient,
          .scale = 1 / tokens};
}

}  // namespace

Operand embedding_forward(Builder& b, Operand tokens, Operand positions) {
  b.layer = -1;
  const Operand x = b.data("x", b.T * b.h);
  b.op("embedding",
       Embedding{.rows = b.T,
                 .hidden = b.h,
                 .vocab_begin = b.vocab * b.t_index,
                 .vocab_count = b.vocab,
                 .add_position = b.t_index == 0},
       {tokens, positions, b.weight(TensorRole::TokenEmbedding),
        b.weight(TensorRole::PositionEmbedding)},
       {x});
  b.all_reduce("embedding_sum", x, b.T * b.h, b.tensor_peers());
  return x;
}

Operand head_train(Builder& b, Operand x, Operand targets) {
  Operand mean, rstd;
  const Operand n = final_norm(b, x, b.T, mean, rstd);
  const Operand dn = b.data("d_final_n", b.T * b.h);
  const Operand logprob = b.input("logprob", b.T, b.wide);
  const Operand loss = b.input("loss", 1, Dtype::F64);
  const std::int64_t most = head_rows(b);
  const Operand logits = b.data("logits", most * b.vocab);
  for (std::int64_t first = 0; first < b.T; first += most) {
    const std::int64_t rows = std::min(most, b.T - first);
    b.pass = Pass::Forward;
    const Chunk chunk = score(b, n, targets, first, rows, logits);
    b.op("cross_entropy", loss_shape(b, rows, true),
         {chunk.logits, shifted(targets, first), chunk.stats},
         {chunk.logits, shifted(logprob, first), loss});
    b.pass = Pass::Backward;
    b.op("head_input_grad", Gemm{.m = rows, .n = b.h, .k = b.vocab},
         {chunk.logits, b.weight(TensorRole::TokenEmbedding)}, {shifted(dn, first * b.h)});
    b.op("head_weight_grad",
         Gemm{.m = b.vocab,
              .n = b.h,
              .k = rows,
              .transpose_a = true,
              .accumulate = b.accumulate || first > 0},
         {chunk.logits, shifted(n, first * b.h)}, {b.gradient(TensorRole::TokenEmbedding)});
  }
  b.all_reduce("head_input_grad_sum", dn, b.T * b.h, b.tensor_peers());
  const Operand dx = b.data("dx", b.T * b.h);
  b.op("final_ln_grad", LayerNormGrad{.rows = b.T, .hidden = b.h, .accumulate = false},
       {dn, x, b.weight(TensorRole::FinalGain), mean, rstd},
       {dx, b.gradient(TensorRole::FinalGain), b.gradient(TensorRole::FinalBias)});
  return dx;
}

void head_evaluate(Builder& b, Operand x, Operand targets) {
  Operand mean, rstd;
  const Operand n = final_norm(b, x, b.T, mean, rstd);
  const Operand logprob = b.input("logprob", b.T, b.wide);
  const Operand loss = b.input("loss", 1, Dtype::F64);
  const std::int64_t most = head_rows(b);
  const Operand logits = b.data("logits", most * b.vocab);
  for (std::int64_t first = 0; first < b.T; first += most) {
    const std::int64_t rows = std::min(most, b.T - first);
    const Chunk chunk = score(b, n, targets, first, rows, logits);
    b.op("cross_entropy", loss_shape(b, rows, false),
         {chunk.logits, shifted(targets, first), chunk.stats},
         {chunk.logits, shifted(logprob, first), loss});
  }
}

void head_generate(Builder& b, Operand x, std::int64_t samples) {
  b.layer = -1;
  const Operand index = b.input("sample_rows", samples, Dtype::I32);
  const Operand range = b.input("sample_range", 2, Dtype::I32);
  const Operand last = b.data("last_rows", samples * b.h);
  const Rows rows{.bound = samples, .expected = static_cast<double>(samples)};
  b.op("last_rows", GatherRows{.rows = rows, .hidden = b.h}, {x, index, range}, {last});
  Operand mean, rstd;
  const Operand n = final_norm(b, last, samples, mean, rstd);
  Operand logits = b.data("logits", samples * b.vocab);
  b.op("head", Gemm{.m = samples, .n = b.vocab, .k = b.h, .transpose_b = true},
       {n, b.weight(TensorRole::TokenEmbedding)}, {logits});
  if (b.t > 1) {
    const Operand all = b.data("logits_all", b.t * samples * b.vocab);
    b.communicate("head_gather", AllGather{samples * b.vocab}, b.tensor_peers(), {logits}, {all});
    logits = all;
  }
  const Sample shape{.rows = samples, .cols = b.vocab, .parts = b.t, .valid = b.model.vocab};
  b.op("sample", shape, {logits, b.input("sampling", samples * kSamplingWords, Dtype::F64)},
       {b.input("next_token", samples, Dtype::I32), b.input("next_logprob", samples, b.wide),
        b.scratch(sample_scratch_elements(shape))});
}

}  // namespace imhotep::program
