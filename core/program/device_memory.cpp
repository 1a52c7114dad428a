#include "core/program/device_memory.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <tuple>

#include "core/layout/groups.h"

namespace imhotep::program {
namespace {

constexpr std::int64_t kBlockAlignment = 512;
constexpr std::int64_t kInputAlignment = 256;

std::int64_t rounded(std::int64_t bytes, std::int64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

bool in_arena(BufferKind kind) {
  return kind == BufferKind::Activation || kind == BufferKind::Exchange ||
         kind == BufferKind::Scratch;
}

// Blocks as the executor reserves them: the arena, all inputs together, and every other buffer.
std::vector<std::int64_t> blocks_of(std::span<const Program> programs) {
  using Name = std::tuple<BufferKind, std::string_view, int, int>;
  std::map<Name, std::int64_t> largest;
  std::int64_t arena = 0, inputs = 0;
  for (const Program& program : programs) {
    arena = std::max(arena, program.arena_bytes);
    std::map<Name, int> seen;
    for (const Buffer& buffer : program.buffers) {
      const int ordinal = seen[{buffer.kind, buffer.name, buffer.layer, 0}]++;
      if (in_arena(buffer.kind)) continue;
      std::int64_t& bytes = largest[{buffer.kind, buffer.name, buffer.layer, ordinal}];
      bytes = std::max(bytes, buffer.bytes());
    }
  }
  std::vector<std::int64_t> blocks = {arena};
  for (const auto& [name, bytes] : largest) {
    if (std::get<0>(name) == BufferKind::Input) {
      inputs += rounded(bytes, kInputAlignment);
    } else {
      blocks.push_back(bytes);
    }
  }
  blocks.push_back(inputs);
  return blocks;
}

// Bytes of one member that a collective moves; -1 for exchanges, which store rows into the members'
// own arenas inside a node.
std::int64_t member_bytes(const Program& program, const Operation& operation) {
  const auto bytes = [&](std::int64_t elements) {
    return elements * bytes_of(program[operation.outputs[0].buffer].dtype);
  };
  if (const auto* sum = std::get_if<AllReduce>(&operation.shape)) return bytes(sum->elements);
  if (const auto* gather = std::get_if<AllGather>(&operation.shape)) return bytes(gather->elements);
  if (const auto* sum = std::get_if<ReduceScatter>(&operation.shape)) return bytes(sum->elements);
  return -1;
}

bool inside_node(const Members& members, int ranks_per_node) {
  if (ranks_per_node < 1) return true;
  const int node = members.front().value / ranks_per_node;
  return std::all_of(members.begin(), members.end(),
                     [&](Rank rank) { return rank.value / ranks_per_node == node; });
}

struct Groups {
  std::set<Members> all, over_nccl;
};

Groups groups_of(const Plan& plan, std::span<const Program> programs) {
  Groups groups{.all = {world_group(plan)}};
  for (const Program& program : programs) {
    for (const Operation& operation : program.operations) {
      if (!operation.group.valid()) continue;
      const Members& members = program.groups[operation.group.value].members;
      const auto size = static_cast<int>(members.size());
      if (size < 2) continue;
      groups.all.insert(members);
      const std::int64_t bytes = member_bytes(program, operation);
      const bool near = size <= kMostWindows && inside_node(members, plan.ranks_per_node);
      if (!near || (bytes >= 0 && !fits_windows(bytes, size))) groups.over_nccl.insert(members);
    }
  }
  return groups;
}

}  // namespace

bool fits_windows(std::int64_t bytes, int members) {
  return members <= kMostWindows && bytes <= kMostStagedBytes &&
         bytes * (members - 1) <= kMostInOneShot;
}

std::int64_t window_bytes(int members) {
  constexpr std::int64_t kRow = kWindowBlocks * 4;
  return rounded(kRow * (members + 2), 256) + 2 * members * kMostStagedBytes;
}

std::int64_t page_waste(std::span<const Program> programs) {
  std::int64_t small = 0, waste = 0;
  for (const std::int64_t bytes : blocks_of(programs)) {
    if (2 * bytes <= kDevicePage) {
      waste += rounded(bytes, kBlockAlignment) - bytes;
      small += rounded(bytes, kBlockAlignment);
    } else {
      waste += rounded(bytes, kDevicePage) - bytes;
    }
  }
  return waste + rounded(small, kDevicePage) - small;
}

std::int64_t bytes_beside_buffers(const Plan& plan, std::span<const Program> programs,
                                  const LibraryBytes& libraries) {
  if (plan.device != DeviceKind::Cuda || plan.style != ExecutionStyle::Imhotep) return 0;
  if (libraries.join_bytes == 0) return 0;
  std::int64_t bytes = page_waste(programs);
  if (plan.world == 1) return bytes;
  const Groups groups = groups_of(plan, programs);
  bytes += static_cast<std::int64_t>(plan.moe_layers.size()) * kDevicePage;  // exchange tables
  for (const Members& members : groups.all) {
    const auto size = static_cast<int>(members.size());
    if (size <= kMostWindows) bytes += rounded(window_bytes(size), kDevicePage);
  }
  return bytes + libraries.join_bytes +
         libraries.channel_bytes * static_cast<std::int64_t>(groups.over_nccl.size());
}

}  // namespace imhotep::program
