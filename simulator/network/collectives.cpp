#include "simulator/network/collectives.h"

#include <algorithm>
#include <cmath>

#include "core/base/fail.h"

namespace imhotep::simulator {
namespace {

// A ring once around: p-1 steps, of which n-1 cross nodes (all, when every rank has its own).
double ring_latency_us(const GroupLayout& g, const ClusterSpec& c) {
  const int across = g.nodes - 1, within = g.size - 1 - across;
  return within * c.intra.latency_us + across * c.inter.latency_us;
}

// Bytes every rank must receive, and bytes that must enter a node, over the links of its ranks.
double ring_transfer_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  const double p = g.size, G = g.per_node;
  const double intra = G > 1 ? (p - 1) / p * bytes / c.intra.bytes_per_us : 0;
  const double inter = (p - G) / p * bytes / (G * c.inter.bytes_per_us);
  return std::max(intra, g.nodes > 1 ? inter : 0);
}

double ring_all_reduce_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  return 2 * (ring_latency_us(g, c) + ring_transfer_us(bytes, g, c));
}

double tree_all_reduce_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  const double G = g.per_node;
  const double hops = std::ceil(std::log2(G)) * c.intra.latency_us +
                      std::ceil(std::log2(g.nodes)) * c.inter.latency_us;
  const double intra = G > 1 ? bytes / c.intra.bytes_per_us : 0;
  const double inter = g.nodes > 1 ? bytes / (G * c.inter.bytes_per_us) : 0;
  return 2 * (hops + std::max(intra, inter));
}

}  // namespace

double all_reduce_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  if (g.size < 2) return 0;
  return std::min(ring_all_reduce_us(bytes, g, c), tree_all_reduce_us(bytes, g, c));
}

double all_gather_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  if (g.size < 2) return 0;
  return ring_latency_us(g, c) + ring_transfer_us(bytes, g, c);
}

double reduce_scatter_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  return all_gather_us(bytes, g, c);
}

double flat_exchange_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  if (g.size < 2) return 0;
  const double p = g.size, G = g.per_node;
  const double hops = (G - 1) * c.intra.latency_us + (p - G) * c.inter.latency_us;
  const double intra = (G - 1) / p * bytes / c.intra.bytes_per_us;
  const double inter = (p - G) / p * bytes / c.inter.bytes_per_us;
  return hops + std::max(intra, inter);
}

double hierarchical_exchange_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  if (g.nodes < 2 || g.per_node < 2) return flat_exchange_us(bytes, g, c);
  const double G = g.per_node, n = g.nodes;
  const double inside = (G - 1) * c.intra.latency_us + (G - 1) / G * bytes / c.intra.bytes_per_us;
  const double between = (n - 1) * c.inter.latency_us + (n - 1) / n * bytes / c.inter.bytes_per_us;
  const double transposes = 2 * 2 * bytes / c.device.memory_bytes_per_us;
  return inside + between + transposes;
}

double gather_exchange_us(double bytes, const GroupLayout& g, const ClusterSpec& c) {
  return c.device.kind == DeviceKind::Cpu ? flat_exchange_us(bytes, g, c)
                                          : all_gather_us(bytes, g, c);
}

double collective_us(std::string_view kind, double bytes, const GroupLayout& layout,
                     const ClusterSpec& cluster) {
  if (kind == "all_reduce") return all_reduce_us(bytes, layout, cluster);
  if (kind == "all_gather" || kind == "all_gather_rows") {
    return all_gather_us(bytes, layout, cluster);
  }
  if (kind == "reduce_scatter") return reduce_scatter_us(bytes, layout, cluster);
  if (kind.starts_with("exchange_")) {
    if (kind.ends_with(" hierarchical")) return hierarchical_exchange_us(bytes, layout, cluster);
    if (kind.ends_with(" all_gather")) return gather_exchange_us(bytes, layout, cluster);
    if (kind.ends_with(" flat") || kind.ends_with(" coordinated")) {
      return flat_exchange_us(bytes, layout, cluster);
    }
  }
  fail("no formula for a collective of kind \"{}\"", kind);
}

}  // namespace imhotep::simulator
