#pragma once
// Time of collectives by hops and bytes, from a cluster's two links. Bytes count as
// profiles::collective_bytes says. A group of one takes no time.
// Symbols: p ranks, n nodes, G ranks on the fullest node, S bytes, a latency, B bandwidth.
// Derivations and sources in full: docs/cost/collectives.md.

#include <string_view>

#include "core/spec/cluster.h"
#include "simulator/network/group_layout.h"

namespace imhotep::simulator {

// Ring: 2(p-1) steps, n of each round over the network; every node's ranks share its links.
// Double tree: 2 log2 p hops, all bytes up and down. The faster of both, as libraries choose.
// Source: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication
// Operations in MPICH" (2005); hop counts of NCCL's tuner (src/graph/tuning.cc).
[[nodiscard]] double all_reduce_us(double bytes, const GroupLayout& layout,
                                   const ClusterSpec& cluster);

// Ring: (p-1) steps, (p-1)/p of the bytes. Source: as above.
[[nodiscard]] double all_gather_us(double bytes, const GroupLayout& layout,
                                   const ClusterSpec& cluster);
[[nodiscard]] double reduce_scatter_us(double bytes, const GroupLayout& layout,
                                       const ClusterSpec& cluster);

// Flat all-to-all: a message to every peer; (G-1)/p of the bytes inside the node and (p-G)/p
// between nodes move at once over different links. Also one lane of the coordinated exchange,
// whose group is p/L ranks with 1/L of the bytes.
// Source: DeepSpeed-MoE (arXiv 2201.05596), section 5.3.
[[nodiscard]] double flat_exchange_us(double bytes, const GroupLayout& layout,
                                      const ClusterSpec& cluster);

// Two levels: inside the node, then between ranks of equal local index. Hops fall from O(p) to
// O(G + p/G), the volume about doubles, and rows are transposed in memory twice.
// Source: DeepSpeed-MoE (arXiv 2201.05596), section 5.3; Tutel (arXiv 2206.03382), section 3.3.
[[nodiscard]] double hierarchical_exchange_us(double bytes, const GroupLayout& layout,
                                              const ClusterSpec& cluster);

// Every rank gets the rows of all and keeps its own: one round instead of counts and rows. CPU
// ranks send a message to every peer, as in the flat exchange; GPUs gather in a ring.
[[nodiscard]] double gather_exchange_us(double bytes, const GroupLayout& layout,
                                        const ClusterSpec& cluster);

// By the name a profile uses: "all_reduce", "exchange_rows hierarchical".
// Throws: Error(Failed) for a kind that is not one.
[[nodiscard]] double collective_us(std::string_view kind, double bytes, const GroupLayout& layout,
                                   const ClusterSpec& cluster);

}  // namespace imhotep::simulator
