#include "planner/search/program_parts.h"

#include <algorithm>

namespace imhotep::planner {

using program::BufferKind;

std::vector<double> finish_increments(const simulator::Timeline& timeline) {
  std::vector<double> increments;
  increments.reserve(timeline.slices.size());
  double done_us = 0;
  for (const simulator::Slice& slice : timeline.slices) {
    const double finish_us = std::max(done_us, slice.end_us());
    increments.push_back(finish_us - done_us);
    done_us = finish_us;
  }
  return increments;
}

std::int64_t aligned_bytes(const program::Buffer& buffer) {
  constexpr std::int64_t kAlignment = 64;  // as place_buffers does
  return (buffer.bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

std::vector<std::vector<int>> arena_buffers(const program::Program& program, int layers) {
  std::vector<std::vector<int>> by_layer(static_cast<std::size_t>(layers) + 1);
  for (std::size_t b = 0; b < program.buffers.size(); ++b) {
    const program::Buffer& buffer = program.buffers[b];
    const bool in_arena = buffer.kind == BufferKind::Activation ||
                          buffer.kind == BufferKind::Exchange || buffer.kind == BufferKind::Scratch;
    if (in_arena && buffer.first_use >= 0)
      by_layer[buffer.layer + 1].push_back(static_cast<int>(b));
  }
  return by_layer;
}

std::vector<std::int64_t> live_bytes(const program::Program& program,
                                     const std::vector<int>& buffers,
                                     const std::vector<int>& operations) {
  const auto place = [&](int operation) {
    return std::lower_bound(operations.begin(), operations.end(), operation) - operations.begin();
  };
  std::vector<std::int64_t> live(operations.size() + 1, 0);
  for (const int b : buffers) {
    const program::Buffer& buffer = program.buffers[b];
    live[place(buffer.first_use)] += aligned_bytes(buffer);
    live[place(buffer.last_use + 1)] -= aligned_bytes(buffer);
  }
  for (std::size_t i = 1; i < live.size(); ++i) live[i] += live[i - 1];
  live.pop_back();
  return live;
}

void add_to_gradients(program::Program& first) {
  for (program::Operation& operation : first.operations) {
    if (operation.outputs.size() == 0 || !operation.outputs[0].valid()) continue;
    const program::Buffer& written = first[operation.outputs[0].buffer];
    if (written.kind != BufferKind::Gradient) continue;
    if (auto* product = std::get_if<Gemm>(&operation.shape)) product->accumulate = true;
    if (auto* product = std::get_if<GroupedGemm>(&operation.shape)) product->accumulate = true;
  }
}

int find_operation(const program::Program& program, std::string_view name) {
  for (std::size_t i = 0; i < program.operations.size(); ++i) {
    if (program.operations[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace imhotep::planner
