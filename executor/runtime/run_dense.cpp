// Dense mathematics, head, loss and update: operands of core/program/operands.md to kernels.

#include "core/base/fail.h"
#include "executor/runtime/operation.h"
#include "kernels/attention.h"
#include "kernels/attention_cached.h"
#include "kernels/cross_entropy.h"
#include "kernels/distill.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/layer_norm.h"
#include "kernels/sample.h"
#include "kernels/update.h"

namespace imhotep::executor {

void run(const OperationRun& o, const LayerNorm& shape) {
  kernels::layer_norm(o.queue, shape,
                      {.x = o.in(0),
                       .gain = o.in(1),
                       .bias = o.in(2),
                       .y = o.out(0),
                       .mean = o.out(1),
                       .rstd = o.out(2)});
}

void run(const OperationRun& o, const LayerNormGrad& shape) {
  kernels::layer_norm_grad(o.queue, shape,
                           {.dy = o.in(0),
                            .x = o.in(1),
                            .gain = o.in(2),
                            .mean = o.in(3),
                            .rstd = o.in(4),
                            .dx = o.out(0),
                            .dgain = o.out(1),
                            .dbias = o.out(2)});
}

void run(const OperationRun& o, const Gemm& shape) {
  const bool reads_pre = shape.epilogue == Epilogue::GeluGrad;
  const bool sums = shape.epilogue == Epilogue::BiasGrad;
  void* second = sums ? nullptr : o.out(1);
  kernels::gemm(o.queue, shape,
                {.a = o.in(0),
                 .b = o.in(1),
                 .bias = o.in(2),
                 .addend = o.in(3),
                 .pre = reads_pre ? const_cast<void*>(o.in(4)) : second,
                 .c = o.out(0),
                 .bias_grad = sums ? o.out(1) : nullptr});
}

void run(const OperationRun& o, const ColumnSum& shape) {
  kernels::column_sum(o.queue_of(o.dtype_out(0)), shape, {.x = o.in(0), .out = o.out(0)});
}

void run(const OperationRun& o, const Add& shape) {
  kernels::add(o.queue, shape, {.x = o.in(0), .y = o.out(0)});
}

void run(const OperationRun& o, const Fill& shape) {
  kernels::fill(o.queue_of(o.dtype_out(0)), shape, {.y = o.out(0)});
}

void run(const OperationRun& o, const Embedding& shape) {
  kernels::embedding(o.queue, shape,
                     {.tokens = o.in<std::int32_t>(0),
                      .positions = o.in<std::int32_t>(1),
                      .table = o.in(2),
                      .position_table = o.in(3),
                      .y = o.out(0)});
}

void run(const OperationRun& o, const EmbeddingGrad& shape) {
  kernels::embedding_grad(o.queue, shape,
                          {.tokens = o.in<std::int32_t>(0),
                           .positions = o.in<std::int32_t>(1),
                           .dy = o.in(2),
                           .dtable = o.out(0),
                           .dposition_table = o.out(1)});
}

void run(const OperationRun& o, const Attention& shape) {
  kernels::attention(o.queue, shape,
                     {.qkv = o.in(0), .ctx = o.out(0), .lse = o.out(1), .scratch = o.out(2)});
}

void run(const OperationRun& o, const AttentionGrad& shape) {
  kernels::attention_grad(o.queue, shape,
                          {.qkv = o.in(0),
                           .ctx = o.in(1),
                           .lse = o.in(2),
                           .dctx = o.in(3),
                           .dqkv = o.out(0),
                           .scratch = o.out(1)});
}

void run(const OperationRun& o, const AttentionCached& shape) {
  kernels::attention_cached(o.queue, shape,
                            {.qkv = o.in(0),
                             .positions = o.in<std::int32_t>(1),
                             .sequences = o.in<std::int32_t>(2),
                             .block_table = o.in<std::int32_t>(3),
                             .k_pages = o.out(1),
                             .v_pages = o.out(2),
                             .ctx = o.out(0),
                             .scratch = o.out(3)});
}

void run(const OperationRun& o, const SoftmaxStats& shape) {
  kernels::softmax_stats(o.queue, shape,
                         {.logits = o.in(0), .targets = o.in<std::int32_t>(1), .stats = o.out(0)});
}

void run(const OperationRun& o, const CrossEntropy& shape) {
  kernels::cross_entropy(o.queue, shape,
                         {.stats = o.in(2),
                          .targets = o.in<std::int32_t>(1),
                          .logits = o.out(0),
                          .logprob = o.out(1),
                          .loss_sum = o.out<double>(2),
                          .scale = shape.scale});
}

void run(const OperationRun& o, const Distill& shape) {
  kernels::distill(o.queue, shape,
                   {.student = o.in(0),
                    .teacher = o.in(1),
                    .dstudent = o.out(0),
                    .loss = o.out<double>(1),
                    .scale = 1.0 / static_cast<double>(shape.rows),
                    .valid = shape.cols,
                    .accumulate = true});
}

void run(const OperationRun& o, const Sample& shape) {
  kernels::sample(o.queue, shape,
                  {.logits = o.in(0),
                   .parameters = o.in<kernels::SampleParameters>(1),
                   .tokens = o.out<std::int32_t>(0),
                   .logprob = o.out(1),
                   .scratch = o.out(2)});
}

void run(const OperationRun& o, const SumSquares& shape) {
  kernels::sum_squares(o.queue_of(o.dtype_in(0)), shape, {.x = o.in(0), .total = o.out<double>(0)});
}

void run(const OperationRun& o, const ClipScale& shape) {
  kernels::clip_scale(
      o.queue, shape,
      {.total = o.in<double>(0), .norm = o.out<double>(0), .factor = o.out<double>(1)});
}

void run(const OperationRun& o, const AdamW& shape) {
  kernels::adamw(o.queue_of(o.dtype_out(0)), shape,
                 {.grad = o.in(0),
                  .factor = o.in<double>(1),
                  .weight = o.out(0),
                  .m = o.out(1),
                  .v = o.out(2),
                  .master = o.out(3),
                  .hyper = o.context.hyper});
}

}  // namespace imhotep::executor
