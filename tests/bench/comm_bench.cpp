// Times of the exchanges' building blocks: mpirun -n 2 bench_comm. Medians of seven rounds, the
// slowest rank of each; bytes of all_to_all_v are what a rank sends to one other rank.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "executor/comm/communicator_pool.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

template <class Body>
double median_us(const Bootstrap& ranks, int calls, Body body) {
  std::vector<double> rounds;
  for (int round = 0; round < 8; ++round) {
    ranks.barrier();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) body();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (round > 0) rounds.push_back(ranks.largest(took.count() / calls));
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

}  // namespace

int main() {
  const Bootstrap ranks;
  CommunicatorPool pool(ranks);
  Members world;
  for (int r = 0; r < ranks.world(); ++r) world.emplace_back(r);
  pool.prepare(std::vector<Members>{world});
  Communicator& group = pool.get(world);
  const std::int64_t most = std::int64_t{16} << 20, p = ranks.world();
  std::vector<float> in(p * most / 4, 0.5F), out(p * most / 4, 0.25F), sum(most / 4);
  if (ranks.rank() == 0) {
    fmt::print("{}\n{:>10} {:>16} {:>14} {:>14}\n", ranks.describe(), "bytes", "all_to_all_v us",
               "MB/us", "all_reduce us");
  }
  for (std::int64_t bytes = 1024; bytes <= most; bytes *= 4) {
    const int calls = static_cast<int>(std::clamp<std::int64_t>(20'000'000 / bytes, 3, 2000));
    std::vector<std::int64_t> sizes(p, bytes), offsets(p);
    for (std::int64_t m = 0; m < p; ++m) offsets[m] = m * bytes;
    sizes[ranks.rank()] = 0;  // nothing for itself
    const double exchange_us = median_us(ranks, calls, [&] {
      group.all_to_all_v(in.data(), out.data(), {sizes, offsets}, {sizes, offsets});
    });
    const double sum_us = median_us(ranks, calls, [&] {
      std::fill_n(sum.begin(), 1, 1.0F);
      group.all_reduce(sum.data(), bytes / 4, Dtype::F32);
    });
    if (ranks.rank() == 0) {
      const double rate = static_cast<double>(bytes * (p - 1)) / exchange_us / 1e6;
      fmt::print("{:>10} {:>16.2f} {:>14.4f} {:>14.2f}\n", bytes, exchange_us, rate, sum_us);
    }
  }
}
