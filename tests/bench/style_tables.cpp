// The table of docs/validation/styles.md: one MoE layer in two styles against the figures that
// Tutel (arXiv 2206.03382) publishes: 16,384 tokens a GPU, model and hidden width 2048, two experts
// a GPU, top-2, on Azure NDm A100 v4; memory with widths of 4096. Not a test: scripts/paper-table,
// or ninja style_tables && tests/planner/style_tables

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "simulator/styles/restyle.h"
#include "tests/bench/paper_models.h"

namespace imhotep::paper {
namespace {

constexpr int kLayer = 1;  // the block with experts
constexpr auto kFairseq = ExecutionStyle::Fairseq;
constexpr auto kTutel = ExecutionStyle::Tutel;

ModelSpec one_layer(int hidden, int experts) {
  return {.name = "one MoE layer",
          .layers = 2,
          .hidden = hidden,
          .heads = 16,
          .vocab = 128,
          .context = 2048,
          .experts = {{experts}},
          .top_k = 2,
          .router = {.drop = DropPolicy::Position}};
}

Plan layer_plan(int hidden, std::int64_t tokens, int gpus, ExecutionStyle style) {
  Plan plan;
  plan.model = one_layer(hidden, 2 * gpus);
  plan.workload = {
      .kind = WorkloadKind::Training, .global_batch = tokens / 2048 * gpus, .sequence = 2048};
  plan.cluster = "azure-ndm-a100-v4";
  plan.style = style;
  plan.executable = false;
  plan.device = DeviceKind::Cuda;
  plan.dtype = Dtype::Bf16;
  plan.world = plan.data = gpus;
  plan.ranks_per_node = 8;
  plan.micro_batch = tokens / 2048;
  plan.moe_layers = {{.layer = kLayer, .experts = 2 * gpus, .expert = gpus}};
  return plan;
}

bool of_layer(const program::Operation& operation) {
  static const std::set<std::string_view> dense = {"ln1",
                                                   "qkv",
                                                   "attention",
                                                   "projection",
                                                   "ln2",
                                                   "ln2_grad",
                                                   "projection_weight_grad",
                                                   "projection_input_grad",
                                                   "attention_grad",
                                                   "qkv_weight_grad",
                                                   "qkv_input_grad",
                                                   "ln1_grad",
                                                   "moe_residual",
                                                   "dn_zero"};
  return operation.layer == kLayer && !dense.contains(operation.name);
}

// Our listings have experts of four times the width; the figures are for experts as wide as the
// model.
program::Program narrow_step(const Plan& plan) {
  program::Program step = program::build_train_step(plan, Rank(0));
  const std::int64_t h = plan.model.hidden, f = 4 * h;
  for (program::Operation& operation : step.operations) {
    if (auto* product = std::get_if<GroupedGemm>(&operation.shape)) {
      if (product->n == f) product->n = h;
      if (product->k == f) product->k = h;
    }
    if (auto* sum = std::get_if<GroupedColumnSum>(&operation.shape)) {
      if (sum->cols == f) sum->cols = h;
    }
  }
  for (program::Buffer& buffer : step.buffers) {
    const std::string_view name = buffer.name;
    if (name == "expert_pre" || name == "expert_hidden" || name == "d_expert_hidden") {
      buffer.elements /= 4;
    }
  }
  return step;
}

struct LayerTime {
  double exchange_us = 0, experts_us = 0, rest_us = 0;
  [[nodiscard]] double total() const { return exchange_us + experts_us + rest_us; }
};

LayerTime time_of(int gpus, ExecutionStyle style) {
  const Plan plan = layer_plan(2048, 16384, gpus, style);
  const Setup setup{.style = style, .gpus = gpus, .cluster = plan.cluster};
  const program::Program step = narrow_step(plan);
  const simulator::ProgramPrice price = simulator_of(setup).price(step, plan);
  LayerTime time;
  for (std::size_t i = 0; i < step.operations.size(); ++i) {
    const program::Operation& operation = step.operations[i];
    if (!of_layer(operation)) continue;
    const bool exchange = std::holds_alternative<ExchangeRows>(operation.shape);
    const bool experts = std::holds_alternative<GroupedGemm>(operation.shape);
    (exchange  ? time.exchange_us
     : experts ? time.experts_us
               : time.rest_us) += price.costs[i].time_us;
  }
  return time;
}

struct Tally {
  int rows = 0, within = 0;
  void row(const char* what, double published, double predicted, const char* unit,
           const char* note = "") {
    const double error = predicted / published - 1;
    ++rows;
    within += std::abs(error) <= 0.25 ? 1 : 0;
    fmt::print("| {} | {:.4g} {} | {:.3g} {} | {:+.0f} % | {} |{}\n", what, published, unit,
               predicted, unit, 100 * error, std::abs(error) <= 0.25 ? "yes" : "no",
               *note == 0 ? "" : fmt::format(" {} |", note));
  }
};

void speeds(Tally& tally) {
  struct Row {
    int gpus;
    double all, kernels, exchange, chunks;
  };
  for (const Row& row :
       {Row{16, 4.96, 3.52, 0, 1.43}, {128, 3.11, 0, 0, 0}, {2048, 5.75, 1.04, 4.25, 1.04}}) {
    const LayerTime fairseq = time_of(row.gpus, kFairseq), tutel = time_of(row.gpus, kTutel);
    // Batched experts before chunks hide them: those of a style that has no chunks.
    const double experts = time_of(row.gpus, ExecutionStyle::Gshard).experts_us;
    const double kernels = fairseq.exchange_us + experts + tutel.rest_us;
    const double levels = tutel.exchange_us + experts + tutel.rest_us;
    const auto name = [&](const char* what) { return fmt::format("{}, {} GPUs", what, row.gpus); };
    tally.row(name("layer, fairseq / Tutel").c_str(), row.all, fairseq.total() / tutel.total(),
              "x");
    if (row.kernels > 0) {
      tally.row(name("kernels alone").c_str(), row.kernels, fairseq.total() / kernels, "x");
    }
    if (row.exchange > 0) {
      tally.row(name("two-level exchange").c_str(), row.exchange, kernels / levels, "x");
    }
    if (row.chunks > 0) {
      tally.row(name("overlap in chunks").c_str(), row.chunks, levels / tutel.total(), "x");
    }
  }
}

// Most bytes alive among the layer's own buffers, its weights with gradients and state, the
// style's.
double memory_gib(std::int64_t tokens, ExecutionStyle style) {
  const int gpus = 8;
  const Plan plan = layer_plan(4096, tokens, gpus, style);
  const program::Program step = narrow_step(plan);
  std::vector<bool> own(step.buffers.size(), false), foreign(step.buffers.size(), false);
  for (const program::Operation& operation : step.operations) {
    for (const auto* operands : {&operation.inputs, &operation.outputs}) {
      for (const program::Operand& operand : *operands) {
        if (operand.valid()) (of_layer(operation) ? own : foreign)[operand.buffer.value] = true;
      }
    }
  }
  std::vector<double> live(step.operations.size() + 1, 0);
  for (std::size_t b = 0; b < step.buffers.size(); ++b) {
    const program::Buffer& buffer = step.buffers[b];
    const bool arena = buffer.kind == program::BufferKind::Activation ||
                       buffer.kind == program::BufferKind::Exchange;
    if (!own[b] || !arena || buffer.first_use < 0) continue;
    // Buffers of rows are as long as the worst case; what is moved is tokens x 2 rows.
    const double rows = 2.0 * static_cast<double>(tokens);
    const bool of_rows = buffer.elements > 4 * tokens * plan.model.hidden;
    const double bytes =
        of_rows ? rows * plan.model.hidden * 2 : static_cast<double>(buffer.bytes());
    live[buffer.first_use] += bytes;
    live[buffer.last_use + 1] -= bytes;
  }
  double now = 0, most = 0;
  for (const double change : live) most = std::max(most, now += change);
  const double weights = 2 * 2 * 4096.0 * 4096.0 * 16;
  return (most + weights + static_cast<double>(simulator::style_bytes(plan))) / (1 << 30);
}

void memory(Tally& tally) {
  struct Row {
    std::int64_t tokens;
    double fairseq, tutel;
  };
  for (const Row& row :
       {Row{4096, 3.7, 2.9}, {8192, 6.2, 3.2}, {16384, 16.3, 4.0}, {32768, 57.9, 5.7}}) {
    const auto name = [&](const char* what) {
      return fmt::format("memory, {}, {} tokens{}", what, row.tokens,
                         (row.tokens == 32768) == (std::string_view(what) == "fairseq") &&
                                 (row.tokens == 32768 || row.tokens == 4096)
                             ? " (fitted)"
                             : "");
    };
    tally.row(name("fairseq").c_str(), row.fairseq, memory_gib(row.tokens, kFairseq), "GiB");
    tally.row(name("Tutel").c_str(), row.tutel, memory_gib(row.tokens, kTutel), "GiB");
  }
}

}  // namespace
}  // namespace imhotep::paper

int main() {
  using namespace imhotep::paper;
  Tally tally;
  fmt::print("| row | published | predicted | error | within 25 % |\n|---|---|---|---|---|\n");
  speeds(tally);
  memory(tally);
  fmt::print("\n{} of {} rows within 25 %.\n", tally.within, tally.rows);
  return 0;
}
