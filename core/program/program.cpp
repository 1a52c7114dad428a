#include "core/program/program.h"

#include <algorithm>
#include <map>

namespace imhotep::program {
namespace {

constexpr std::int64_t kAlignment = 64;  // bytes: a cache line, and any vector register

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

bool in_arena(const Buffer& buffer) {
  return buffer.kind == BufferKind::Activation || buffer.kind == BufferKind::Exchange ||
         buffer.kind == BufferKind::Scratch;
}

// Free space of the arena, by offset; the arena grows when no gap is large enough.
class Arena {
 public:
  std::int64_t take(std::int64_t bytes) {
    auto best = free_.end();
    for (auto gap = free_.begin(); gap != free_.end(); ++gap) {
      const bool fits = gap->second >= bytes;
      if (fits && (best == free_.end() || gap->second < best->second)) best = gap;
    }
    if (best != free_.end()) return take_from(best, bytes);
    // Extend: a gap that touches the end is used as the beginning of the new space.
    if (!free_.empty()) {
      auto last = std::prev(free_.end());
      if (last->first + last->second == end_) {
        end_ = last->first + bytes;
        last->second = bytes;
        return take_from(last, bytes);
      }
    }
    const std::int64_t offset = end_;
    end_ += bytes;
    return offset;
  }

  void give_back(std::int64_t offset, std::int64_t bytes) {
    auto [gap, inserted] = free_.emplace(offset, bytes);
    if (const auto next = std::next(gap); next != free_.end() && offset + bytes == next->first) {
      gap->second += next->second;
      free_.erase(next);
    }
    if (gap != free_.begin()) {
      const auto before = std::prev(gap);
      if (before->first + before->second == offset) {
        before->second += gap->second;
        free_.erase(gap);
      }
    }
  }

  [[nodiscard]] std::int64_t end() const { return end_; }

 private:
  std::int64_t take_from(std::map<std::int64_t, std::int64_t>::iterator gap, std::int64_t bytes) {
    const std::int64_t offset = gap->first, rest = gap->second - bytes;
    free_.erase(gap);
    if (rest > 0) free_.emplace(offset + bytes, rest);
    return offset;
  }

  std::map<std::int64_t, std::int64_t> free_;
  std::int64_t end_ = 0;
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
    if (!in_arena(buffer)) use.by_kind[static_cast<int>(buffer.kind)] += buffer.bytes();
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

void place_buffers(Program& program) {
  const auto steps = static_cast<int>(program.operations.size());
  std::vector<std::vector<int>> starts(steps), ends(steps);
  for (std::size_t b = 0; b < program.buffers.size(); ++b) {
    const Buffer& buffer = program.buffers[b];
    if (!in_arena(buffer) || buffer.first_use < 0) continue;
    starts[buffer.first_use].push_back(static_cast<int>(b));
    ends[buffer.last_use].push_back(static_cast<int>(b));
  }
  Arena arena;
  const auto aligned = [&](int b) {
    return (program.buffers[b].bytes() + kAlignment - 1) / kAlignment * kAlignment;
  };
  for (int i = 0; i < steps; ++i) {
    std::sort(starts[i].begin(), starts[i].end(),
              [&](int a, int b) { return aligned(a) > aligned(b); });
    for (const int b : starts[i]) program.buffers[b].offset = arena.take(aligned(b));
    for (const int b : ends[i]) arena.give_back(program.buffers[b].offset, aligned(b));
  }
  program.arena_bytes = arena.end();
}

}  // namespace imhotep::program
