// Flat against hierarchical exchange over message sizes, measured and as the simulator prices them:
//   mpirun -n 8 bench_exchange RANKS_PER_NODE CLUSTER_FILE PICTURE.svg "WHERE"
// Every rank holds one expert and sends the same rows to every other. Bytes are what a rank sends
// to one other rank. The links of the cluster file are replaced by what two exchanges inside the
// nodes and between pairs of ranks of two nodes show: few bytes give the latency of a message, many
// the bandwidth of a rank. The larger exchange over all ranks is predicted from these four numbers.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/json_document.h"
#include "core/spec/cluster.h"
#include "executor/comm/exchange.h"
#include "simulator/network/collectives.h"
#include "tests/bench/crossover_picture.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

constexpr int kRounds = 9;

// Median over rounds of the slowest rank, a call.
template <class Body>
double time_us(const Bootstrap& ranks, Body body) {
  std::vector<double> rounds;
  int calls = 1;
  for (int round = 0; round <= kRounds; ++round) {
    ranks.barrier();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) body();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    const double slowest = ranks.largest(took.count() / calls);
    if (round > 0) rounds.push_back(slowest);
    if (round == 0) calls = std::clamp(static_cast<int>(60e3 / slowest), 1, 50);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

Plan plan_of(int world, int per_node, ExchangeAlgorithm exchange) {
  Plan plan;
  plan.world = plan.data = world;
  plan.ranks_per_node = per_node;
  plan.moe_layers = {{.layer = 1, .experts = world, .expert = world, .exchange = exchange}};
  return plan;
}

double exchange_us(const Bootstrap& ranks, CommunicatorPool& pool, const Plan& plan,
                   std::int64_t bytes) {
  Exchange exchange(plan, plan.moe_layers[0], Rank(ranks.rank()), pool);
  const auto p = static_cast<std::size_t>(ranks.world());
  std::vector<std::int32_t> sent(p, 1), received(p);
  exchange.counts(sent.data(), received.data());
  std::vector<char> in(p * bytes, 'i'), out(p * bytes, 'o');
  std::vector<char> scratch(exchange.scratch_rows(ranks.world()) * bytes, 's');
  const RowMove move{.in = in.data(),
                     .out = out.data(),
                     .sent = sent.data(),
                     .received = received.data(),
                     .scratch = scratch.data(),
                     .scratch_rows = exchange.scratch_rows(ranks.world()),
                     .row_bytes = bytes};
  return time_us(ranks, [&] { exchange.rows(move); });
}

// Latency of a message and bandwidth of a rank, all groups like this one at work at once.
LinkSpec measure_link(const Bootstrap& ranks, Communicator& group, const std::string& name) {
  const int peers = group.size() - 1;
  const std::int64_t few = 64, many = std::int64_t{1} << 20;
  std::vector<char> in(group.size() * many, 'i'), out(group.size() * many, 'o');
  const auto once_us = [&](std::int64_t bytes) {
    return time_us(ranks, [&] { group.all_to_all(in.data(), out.data(), bytes); });
  };
  const double few_us = once_us(few), many_us = once_us(many);
  return {.name = name,
          .latency_us = few_us / peers,
          .bytes_per_us = static_cast<double>(peers * many) / std::max(many_us - few_us, 1e-3)};
}

struct Setting {
  int per_node = 1;
  ClusterSpec cluster;
};

void measure_links(const Bootstrap& ranks, CommunicatorPool& pool, Setting& setting) {
  const Plan plan = plan_of(ranks.world(), setting.per_node, ExchangeAlgorithm::Hierarchical);
  const Members all = world_group(plan);
  const NodeGrid grid = node_grid(all, setting.per_node);
  const int node = ranks.rank() / setting.per_node, local = ranks.rank() % setting.per_node;
  setting.cluster.intra =
      measure_link(ranks, pool.get(inside_node(all, grid, node)), "inside a node, measured");
  setting.cluster.inter =
      measure_link(ranks, pool.get(across_nodes(all, grid, local)), "between nodes, measured");
}

void run(const Bootstrap& ranks, Setting setting, const std::string& picture,
         const std::string& where) {
  CommunicatorPool pool(ranks);
  const Plan flat = plan_of(ranks.world(), setting.per_node, ExchangeAlgorithm::Flat);
  const Plan two = plan_of(ranks.world(), setting.per_node, ExchangeAlgorithm::Hierarchical);
  pool.prepare(flat);
  pool.prepare(two);
  measure_links(ranks, pool, setting);
  const simulator::GroupLayout layout{ranks.world(), ranks.world() / setting.per_node,
                                      setting.per_node};
  std::vector<bench::Crossover> rows;
  for (std::int64_t bytes = 64; bytes <= (std::int64_t{1} << 18); bytes *= 2) {
    const auto all = static_cast<double>(bytes * ranks.world());
    rows.push_back({.bytes = static_cast<double>(bytes),
                    .flat_us = exchange_us(ranks, pool, flat, bytes),
                    .hierarchical_us = exchange_us(ranks, pool, two, bytes),
                    .flat_priced_us = simulator::flat_exchange_us(all, layout, setting.cluster),
                    .hierarchical_priced_us =
                        simulator::hierarchical_exchange_us(all, layout, setting.cluster)});
  }
  if (ranks.rank() != 0) return;
  fmt::print(
      "{}\nlinks: inside {:.1f} us a message, {:.0f} bytes/us a rank; between nodes {:.1f} "
      "us, {:.2f} bytes/us a rank\n",
      ranks.describe(), setting.cluster.intra.latency_us, setting.cluster.intra.bytes_per_us,
      setting.cluster.inter.latency_us, setting.cluster.inter.bytes_per_us);
  fmt::print("{}", bench::crossover_table(rows));
  write_text_file(picture, bench::crossover_picture(where, rows));
}

}  // namespace

int main(int argc, char** argv) {
  const Bootstrap ranks;
  if (argc != 5) {
    if (ranks.rank() == 0) {
      fmt::print(stderr, "bench_exchange RANKS_PER_NODE CLUSTER_FILE PICTURE.svg WHERE\n");
    }
    return 2;
  }
  try {
    run(ranks, {.per_node = std::atoi(argv[1]), .cluster = read_cluster(argv[2])}, argv[3],
        argv[4]);
  } catch (const std::exception& error) {
    ranks.abort(1, error.what());
  }
  return 0;
}
