#include "executor/calibrate/collectives.h"

#include <chrono>
#include <span>

#include "executor/runtime/step_times.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kSizes[] = {256, 4096, 32768, 262144, 1048576, 4194304, 16777216};

std::vector<int> group_sizes(int world) {
  std::vector<int> sizes;
  for (int size = 2; size < world; size *= 2) sizes.push_back(size);
  if (world > 1) sizes.push_back(world);
  return sizes;
}

Members first_ranks(int count) {
  Members members;
  for (int r = 0; r < count; ++r) members.emplace_back(r);
  return members;
}

struct Buffers {
  std::vector<float> in, out;
};

// `bytes` as profiles::collective_bytes counts them.
using Call = std::function<void(Communicator&, Buffers&, std::int64_t bytes)>;
struct Kind {
  const char* name;
  Call call;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> list = {
      {"all_reduce", [](Communicator& c, Buffers& b,
                        std::int64_t bytes) { c.all_reduce(b.in.data(), bytes / 4, Dtype::F32); }},
      {"all_gather",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.all_gather(b.in.data(), b.out.data(), bytes / c.size());
       }},
      {"all_gather_rows",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.all_gather(b.in.data(), b.out.data(), bytes / c.size());
       }},
      {"reduce_scatter",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.reduce_scatter(b.in.data(), b.out.data(), bytes / 4 / c.size(), Dtype::F32);
       }},
      {"exchange_rows flat",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.all_to_all(b.in.data(), b.out.data(), bytes / c.size());
       }},
      {"exchange_rows coordinated",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.all_to_all(b.in.data(), b.out.data(), bytes / c.size());
       }},
      {"exchange_rows all_gather",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.all_gather(b.in.data(), b.out.data(), bytes / c.size());
       }},
      {"exchange_counts flat",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.all_to_all(b.in.data(), b.out.data(), bytes / c.size());
       }},
      {"exchange_counts coordinated",
       [](Communicator& c, Buffers& b, std::int64_t bytes) {
         c.all_to_all(b.in.data(), b.out.data(), bytes / c.size());
       }},
  };
  return list;
}

// A call at a time, all members together; the first calls touch memory and are left out.
profiles::CollectivePoint time_call(const Call& call, Communicator& group, Buffers& buffers,
                                    std::int64_t bytes) {
  constexpr double kBudgetUs = 60e3;
  constexpr int kFewest = 7, kMost = 60;
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  int calls = kMost;
  for (int i = 0; i < calls + 2; ++i) {
    group.barrier();
    const auto start = Clock::now();
    call(group, buffers, bytes);
    const double time = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    if (i < 2) {
      // Every member must make as many calls: the first one decides by its time of the second.
      double wanted = std::min<double>(kMost, std::max<double>(kFewest, kBudgetUs / time));
      std::vector<double> all(group.size(), 0.0);
      group.all_gather(&wanted, all.data(), sizeof wanted);
      calls = static_cast<int>(all[0]);
      continue;
    }
    times.push_back(time);
  }
  return {.bytes = static_cast<double>(bytes),
          .time_us = median(times),
          .spread = relative_spread(times)};
}

}  // namespace

std::int64_t collective_steps(int world) {
  return static_cast<std::int64_t>(group_sizes(world).size() * kinds().size());
}

std::vector<profiles::CollectiveTable> time_collectives(const Bootstrap& bootstrap,
                                                        CommunicatorPool& pool,
                                                        const std::function<void()>& progress) {
  const std::vector<int> sizes = group_sizes(bootstrap.world());
  std::vector<Members> groups;
  for (const int size : sizes) groups.push_back(first_ranks(size));
  pool.prepare(groups);
  const auto floats = static_cast<std::size_t>(kSizes[std::size(kSizes) - 1] / 4 + 64);
  Buffers buffers{.in = std::vector<float>(floats, 0.5F), .out = std::vector<float>(floats, 1.5F)};
  std::vector<profiles::CollectiveTable> tables;
  for (const int size : sizes) {
    const bool member = bootstrap.rank() < size;
    for (const Kind& kind : kinds()) {
      profiles::CollectiveTable table{.kind = kind.name, .group_size = size};
      for (const std::int64_t bytes : kSizes) {
        if (!member) continue;
        const bool counts = std::string_view(kind.name).starts_with("exchange_counts");
        if (counts && bytes > 32768) continue;
        table.points.push_back(time_call(kind.call, pool.get(first_ranks(size)), buffers, bytes));
      }
      bootstrap.barrier();
      tables.push_back(std::move(table));
      progress();
    }
  }
  return tables;
}

}  // namespace imhotep::executor
