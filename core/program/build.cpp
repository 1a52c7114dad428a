// The steps, from embedding to update. Each is a plain listing; the parts are in attention.cpp,
// mlp.cpp, moe.cpp and head.cpp.

#include "core/program/build.h"

#include <algorithm>
#include <utility>

#include "core/program/builder.h"
#include "core/program/device_memory.h"
#include "core/program/lower_decode.h"

namespace imhotep::program {
namespace {

struct LayerKept {
  AttentionKept attention;
  BlockKept block;
  Operand x;
};

// Balance statistics of all MoE layers lie together, so that one reduction serves them all.
struct StatsTable {
  Operand all;
  std::int64_t elements = 0;
  std::vector<std::int64_t> offset;  // by layer
};

StatsTable stats_table(Builder& b) {
  StatsTable table;
  for (int layer = 0; layer < b.model.layers; ++layer) {
    table.offset.push_back(table.elements);
    table.elements += 2 * static_cast<std::int64_t>(b.model.experts_at(layer));
  }
  table.all = b.input("balance_stats", std::max<std::int64_t>(table.elements, 1), b.wide);
  return table;
}

Operand block_forward(Builder& b, int layer, Operand x, std::int64_t sequence, LayerKept& kept,
                      bool training, const StatsTable& stats) {
  b.layer = layer;
  kept.x = x;
  const Operand middle = attention_forward(b, x, sequence, kept.attention);
  return mlp_block_forward(b, middle, kept.block, training,
                           shifted(stats.all, stats.offset[layer]));
}

// Recomputation runs a block again from its input. Its balance statistics have been summed over
// ranks by then, so the repeated gate writes to a spare table.
void recompute_block(Builder& b, int layer, std::int64_t sequence, LayerKept& kept,
                     const StatsTable& stats) {
  b.pass = Pass::Recompute;
  b.layer = layer;
  StatsTable spare = stats;
  spare.all = b.wides("recomputed_stats", std::max<std::int64_t>(stats.elements, 1));
  const Operand x = kept.x;
  kept = {};
  block_forward(b, layer, x, sequence, kept, true, spare);
  kept.block.routed.stats = shifted(stats.all, stats.offset[layer]);
}

// The gradients that every micro-batch adds to: vectors (what takes no weight decay; those that the
// first micro-batch writes lie among them) and the position table. Those of matrices are written by
// the first micro-batch.
void zero_gradients(Builder& b) {
  const Program& p = b.program();
  for (std::size_t r = 0; r < p.region_gradients.size(); ++r) {
    const Region& region = p.weights.regions[r];
    if (region.elements == region.decayed) continue;
    b.op("zero_gradients", Fill{region.elements - region.decayed}, {},
         {{.buffer = p.region_gradients[r], .offset = region.decayed}});
  }
  b.layer = -1;
  b.op("zero_gradients", Fill{b.model.context * b.h}, {},
       {b.gradient(TensorRole::PositionEmbedding)});
}

}  // namespace

Program build_train_step(const Plan& plan, Rank rank, TrainOptions options) {
  const std::int64_t sequence = plan.workload.sequence;
  Builder b(plan, rank, Phase::TrainStep, plan.micro_batch * sequence);
  const Operand tokens = b.input("tokens", b.T, Dtype::I32);
  const Operand positions = b.input("positions", b.T, Dtype::I32);
  const Operand targets = b.input("targets", b.T, Dtype::I32);
  const StatsTable stats = stats_table(b);
  b.accumulate = !options.first;
  if (options.first) zero_gradients(b);
  std::vector<LayerKept> kept(plan.model.layers);
  Operand x = embedding_forward(b, tokens, positions);
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    x = block_forward(b, layer, x, sequence, kept[layer], true, stats);
  }
  b.layer = -1;
  if (stats.elements > 0 && plan.model.router.aux == AuxScope::Global) {
    b.communicate("balance_sum", AllReduce{stats.elements}, data_group(plan, rank), {stats.all},
                  {stats.all});
  }
  const Operand dx = head_train(b, x, targets);
  for (int layer = plan.model.layers - 1; layer >= 0; --layer) {
    if (plan.recomputes(layer)) recompute_block(b, layer, sequence, kept[layer], stats);
    b.pass = Pass::Backward;
    b.layer = layer;
    mlp_block_backward(b, dx, kept[layer].block);
    attention_backward(b, dx, sequence, kept[layer].attention);
  }
  b.layer = -1;
  b.op("embedding_grad",
       EmbeddingGrad{
           .rows = b.T, .hidden = b.h, .vocab_begin = b.vocab * b.t_index, .vocab_count = b.vocab},
       {tokens, positions, dx},
       {b.gradient(TensorRole::TokenEmbedding), b.gradient(TensorRole::PositionEmbedding)});
  return b.finish(options.place);
}

Program build_evaluate(const Plan& plan, Rank rank, std::int64_t sequences) {
  const std::int64_t sequence = plan.workload.sequence;
  Builder b(plan, rank, Phase::Evaluate, sequences * sequence);
  const Operand tokens = b.input("tokens", b.T, Dtype::I32);
  const Operand positions = b.input("positions", b.T, Dtype::I32);
  const Operand targets = b.input("targets", b.T, Dtype::I32);
  const StatsTable stats = stats_table(b);
  Operand x = embedding_forward(b, tokens, positions);
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    LayerKept kept;
    x = block_forward(b, layer, x, sequence, kept, false, stats);
  }
  head_evaluate(b, x, targets);
  return b.finish();
}

Program build_generate(const Plan& plan, Rank rank, GenerateShape shape) {
  Builder b(plan, rank, Phase::Generate, shape.rows);
  if (shape.used_rows > 0) b.used = shape.used_rows / static_cast<double>(shape.rows);
  const std::int64_t pages = (shape.max_context + plan.page_size - 1) / plan.page_size;
  const Operand tokens = b.input("tokens", b.T, Dtype::I32);
  const Operand positions = b.input("positions", b.T, Dtype::I32);
  b.input("used", b.T, Dtype::I32);
  b.input("sequences", b.T, Dtype::I32);
  b.input("block_table", shape.sequences * pages, Dtype::I32);
  const StatsTable stats = stats_table(b);
  Operand x = embedding_forward(b, tokens, positions);
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    b.layer = layer;
    const Operand middle = attention_cached(b, x, shape);
    BlockKept kept;
    x = mlp_block_forward(b, middle, kept, false, shifted(stats.all, stats.offset[layer]));
  }
  head_generate(b, x, shape.samples);
  const bool fused = plan.device == DeviceKind::Cuda && plan.dtype == Dtype::Bf16 &&
                     plan.style == ExecutionStyle::Imhotep;
  if (!fused) return b.finish();
  return lower_decode(b.finish());
}

GenerateShape decode_shape(const Plan& plan) {
  const Workload& w = plan.workload;
  const std::int64_t sequences = plan.sequences_per_rank();
  return {.rows = sequences,
          .sequences = sequences,
          .samples = sequences,
          .max_context = w.prompt + w.output,
          .context = static_cast<double>(w.prompt) + static_cast<double>(w.output) / 2,
          .pages = plan.kv_tokens > 0 ? plan.kv_pages() : 0};
}

GenerateShape prefill_shape(const Plan& plan) {
  GenerateShape shape = decode_shape(plan);
  shape.rows = std::min(plan.prefill_chunk, plan.workload.prompt);
  shape.samples = 1;
  shape.context = static_cast<double>(shape.rows) / 2;
  return shape;
}

MemoryUse plan_memory(const Plan& plan, Rank rank, const LibraryBytes& libraries) {
  std::vector<Program> programs;
  if (plan.workload.kind == WorkloadKind::Training) {
    programs.push_back(build_train_step(plan, rank));
    programs.push_back(build_update(plan, rank));
  } else {
    programs.push_back(build_generate(plan, rank, decode_shape(plan)));
    programs.push_back(build_generate(plan, rank, prefill_shape(plan)));
  }
  MemoryUse use;
  for (const Program& program : programs) {
    const MemoryUse one = memory_use(program);
    for (int kind = 0; kind < kBufferKinds; ++kind) {
      use.by_kind[kind] = std::max(use.by_kind[kind], one.by_kind[kind]);
    }
  }
  use.by_kind[static_cast<int>(BufferKind::Libraries)] =
      bytes_beside_buffers(plan, programs, libraries);
  return use;
}

}  // namespace imhotep::program
