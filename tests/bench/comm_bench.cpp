// Times of the exchanges' building blocks: mpirun -n 2 bench_comm. Fastest and median of 15
// rounds, the slowest rank of each; bytes of all_to_all_v are what a rank sends to one other.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "executor/comm/communicator_pool.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

struct Time {
  double least_us = 0, median_us = 0;
};

template <class Body>
Time time_us(const Bootstrap& ranks, int calls, Body body) {
  std::vector<double> rounds;
  for (int round = 0; round < 16; ++round) {
    ranks.barrier();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) body();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (round > 0) rounds.push_back(ranks.largest(took.count() / calls));
  }
  std::sort(rounds.begin(), rounds.end());
  return {.least_us = rounds.front(), .median_us = rounds[rounds.size() / 2]};
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
    fmt::print("{}\n{:>10} {:>22} {:>8} {:>22}\n", ranks.describe(), "bytes",
               "all_to_all_v us (med.)", "GB/s", "all_reduce us (med.)");
  }
  for (std::int64_t bytes = 1024; bytes <= most; bytes *= 4) {
    const int calls = static_cast<int>(std::clamp<std::int64_t>(4'000'000 / bytes, 2, 500));
    std::vector<std::int64_t> sizes(p, bytes), offsets(p);
    for (std::int64_t m = 0; m < p; ++m) offsets[m] = m * bytes;
    sizes[ranks.rank()] = 0;  // nothing for itself
    const Time exchange = time_us(ranks, calls, [&] {
      group.all_to_all_v(in.data(), out.data(), {sizes, offsets}, {sizes, offsets});
    });
    const Time total = time_us(ranks, calls, [&] {
      std::fill_n(sum.begin(), 1, 1.0F);
      group.all_reduce(sum.data(), bytes / 4, Dtype::F32);
    });
    if (ranks.rank() == 0) {
      const double rate = static_cast<double>(bytes * (p - 1)) / exchange.least_us / 1e3;
      fmt::print("{:>10} {:>12.2f} {:>9.2f} {:>8.2f} {:>12.2f} {:>9.2f}\n", bytes,
                 exchange.least_us, exchange.median_us, rate, total.least_us, total.median_us);
    }
  }
}
