#include "core/program/program.h"

namespace imhotep::program {
namespace {

struct FamilyName {
  std::string_view operator()(const LayerNorm&) const { return "layer_norm"; }
  std::string_view operator()(const LayerNormGrad&) const { return "layer_norm_grad"; }
  std::string_view operator()(const Gemm&) const { return "gemm"; }
  std::string_view operator()(const ColumnSum&) const { return "column_sum"; }
  std::string_view operator()(const Add&) const { return "add"; }
  std::string_view operator()(const Fill&) const { return "fill"; }
  std::string_view operator()(const Embedding&) const { return "embedding"; }
  std::string_view operator()(const EmbeddingGrad&) const { return "embedding_grad"; }
  std::string_view operator()(const Attention&) const { return "attention"; }
  std::string_view operator()(const AttentionGrad&) const { return "attention_grad"; }
  std::string_view operator()(const AttentionCached&) const { return "attention_cached"; }
  std::string_view operator()(const Route&) const { return "route"; }
  std::string_view operator()(const RouteGrad&) const { return "route_grad"; }
  std::string_view operator()(const PackOrder&) const { return "pack_order"; }
  std::string_view operator()(const ReceiveOrder&) const { return "receive_order"; }
  std::string_view operator()(const GatherRows&) const { return "gather_rows"; }
  std::string_view operator()(const Combine&) const { return "combine"; }
  std::string_view operator()(const CombineGrad&) const { return "combine_grad"; }
  std::string_view operator()(const ScatterSum&) const { return "scatter_sum"; }
  std::string_view operator()(const GroupedGemm&) const { return "grouped_gemm"; }
  std::string_view operator()(const GroupedColumnSum&) const { return "grouped_column_sum"; }
  std::string_view operator()(const ResidualMix&) const { return "residual_mix"; }
  std::string_view operator()(const ResidualMixGrad&) const { return "residual_mix_grad"; }
  std::string_view operator()(const NormGemm&) const { return "norm_gemm"; }
  std::string_view operator()(const NormGate&) const { return "norm_gate"; }
  std::string_view operator()(const FewExpertsUp&) const { return "few_experts_up"; }
  std::string_view operator()(const FewExpertsDown&) const { return "few_experts_down"; }
  std::string_view operator()(const SoftmaxStats&) const { return "softmax_stats"; }
  std::string_view operator()(const CrossEntropy&) const { return "cross_entropy"; }
  std::string_view operator()(const Distill&) const { return "distill"; }
  std::string_view operator()(const Sample&) const { return "sample"; }
  std::string_view operator()(const SumSquares&) const { return "sum_squares"; }
  std::string_view operator()(const ClipScale&) const { return "clip_scale"; }
  std::string_view operator()(const AdamW&) const { return "adamw"; }
  std::string_view operator()(const AllReduce&) const { return "all_reduce"; }
  std::string_view operator()(const AllGather&) const { return "all_gather"; }
  std::string_view operator()(const ReduceScatter&) const { return "reduce_scatter"; }
  std::string_view operator()(const AllGatherRows&) const { return "all_gather_rows"; }
  std::string_view operator()(const ExchangeCounts&) const { return "exchange_counts"; }
  std::string_view operator()(const ExchangeRows&) const { return "exchange_rows"; }
};

}  // namespace

std::string_view family_name(const Shape& shape) { return std::visit(FamilyName{}, shape); }

std::string_view pass_name(Pass pass) {
  switch (pass) {
    case Pass::Forward:
      return "forward";
    case Pass::Recompute:
      return "recompute";
    case Pass::Backward:
      return "backward";
    case Pass::Update:
      return "update";
  }
  return "?";
}

std::string_view phase_name(Phase phase) {
  switch (phase) {
    case Phase::TrainStep:
      return "training";
    case Phase::Update:
      return "update";
    case Phase::Evaluate:
      return "evaluate";
    case Phase::Generate:
      return "generate";
  }
  return "?";
}

BufferId Program::find(std::string_view name) const {
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].name == name) return BufferId(static_cast<std::int64_t>(i));
  }
  return {};
}

std::int64_t MemoryUse::total() const {
  std::int64_t sum = 0;
  for (const std::int64_t bytes : by_kind) sum += bytes;
  return sum;
}

MemoryUse memory_use(const Program& program) {
  MemoryUse use;
  for (const Buffer& buffer : program.buffers) {
    if (!buffer.in_arena()) use.by_kind[static_cast<int>(buffer.kind)] += buffer.bytes();
  }
  use.by_kind[static_cast<int>(BufferKind::Activation)] = program.arena_bytes;
  return use;
}

void find_lifetimes(Program& program) {
  for (Buffer& buffer : program.buffers) buffer.first_use = buffer.last_use = -1;
  for (int i = 0; i < static_cast<int>(program.operations.size()); ++i) {
    const Operation& operation = program.operations[i];
    for (const Operands* operands : {&operation.inputs, &operation.outputs}) {
      for (const Operand& operand : *operands) {
        if (!operand.valid()) continue;
        Buffer& buffer = program.buffers[operand.buffer.value];
        if (buffer.first_use < 0) buffer.first_use = i;
        buffer.last_use = i;
      }
    }
  }
}

}  // namespace imhotep::program
