#include "cli/ranks_per_node.h"

#include <algorithm>

#include "core/base/fail.h"

namespace imhotep::cli {
namespace {

constexpr std::int64_t kMostRanks = 1 << 20;

void check(std::int64_t ranks_per_node) {
  if (ranks_per_node <= kMostRanks) return;
  fail_input("--ranks-per-node {}: possible: 1 to {}", ranks_per_node, kMostRanks);
}

}  // namespace

void declare_ranks_per_node(Arguments& arguments, std::optional<std::int64_t>& value) {
  arguments.integer("--ranks-per-node", value, "draw node boundaries after every N ranks");
}

void draw_nodes(Plan& plan, const std::optional<std::int64_t>& ranks_per_node) {
  if (!ranks_per_node) return;
  check(*ranks_per_node);
  plan.ranks_per_node = static_cast<int>(*ranks_per_node);
  const Verdict verdict = check_degrees(plan);
  if (verdict.feasible) return;
  fail_input("--ranks-per-node {}: {}", *ranks_per_node, fmt::join(verdict.reasons, "; "));
}

void draw_nodes(ClusterSpec& cluster, std::int64_t ranks_per_node, std::int64_t ranks) {
  check(ranks_per_node);
  const std::int64_t all = std::max<std::int64_t>(cluster.devices(), ranks);
  const std::int64_t nodes = (all + ranks_per_node - 1) / ranks_per_node;
  if (cluster.device.kind == DeviceKind::Cpu) {  // their memory is one
    const std::int64_t machine = cluster.device.memory_bytes * cluster.devices();
    cluster.device.memory_bytes = machine / (nodes * ranks_per_node);
  }
  cluster.devices_per_node = static_cast<int>(ranks_per_node);
  cluster.nodes = static_cast<int>(nodes);
}

}  // namespace imhotep::cli
