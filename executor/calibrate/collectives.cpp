#include "executor/calibrate/collectives.h"

#include <chrono>
#include <span>

#include "executor/comm/cuda_communicator.h"
#include "executor/runtime/memory.h"
#include "executor/runtime/own_device.h"
#include "executor/runtime/step_times.h"
#include "kernels/cuda_api.h"
#include "profiles/collective_way.h"

namespace imhotep::executor {
namespace {

// Two sizes of each way at least (profiles/collective_way.h), with its ends: sums of two members go
// through windows up to 512 KiB, gathers up to 1 MiB.
constexpr std::int64_t kSizes[] = {256,       1024,      4096,      16384,    32768,    65536,
                                   131072,    262144,    524288,    655360,   1048576,  1310720,
                                   2097152,   4194304,   8388608,   16777216, 33554432, 67108864,
                                   134217728, 268435456, 1073741824};
// Up to here a GPU's calls are timed as decode steps make them, many in one graph; larger ones as
// training does, enqueued by the host, which is ahead of the device: several between two events, so
// that only the first waits for it.
constexpr auto kLargestInGraph = static_cast<std::int64_t>(profiles::kLargestCaptured);
constexpr int kCallsInGraph = 32, kCallsEnqueued = 4;
constexpr std::int64_t kLargestOnProcessors = 16777216;  // ranks copy through memory they share
constexpr std::int64_t kLargestCounts = 32768;

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

// Where data lies and how a call is timed: on a processor by its clock, on a GPU by events.
class Place {
 public:
  explicit Place(bool gpu) : dtype(gpu ? Dtype::Bf16 : Dtype::F32) {
    const std::int64_t bytes = (gpu ? std::end(kSizes)[-1] : kLargestOnProcessors) + 256;
    if (!gpu) {
      host_in_.assign(static_cast<std::size_t>(bytes / 4), 0.5F);
      host_out_ = host_in_;
      in = host_in_.data();
      out = host_out_.data();
      return;
    }
    const kernels::CudaApi& api = kernels::cuda_api();
    api.use_device(own_device());
    stream_ = api.make_stream(false);
    start_ = api.make_event();
    end_ = api.make_event();
    device_in_ = CudaBlock(CudaBlock::Place::Device, bytes);
    device_out_ = CudaBlock(CudaBlock::Place::Device, bytes);
    api.set(device_in_.data(), 0, bytes, stream_);
    api.wait(stream_);
    in = device_in_.data();
    out = device_out_.data();
  }
  ~Place() {
    if (stream_ == nullptr) return;
    const kernels::CudaApi& api = kernels::cuda_api();
    api.release_event(start_);
    api.release_event(end_);
    api.release_stream(stream_);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  [[nodiscard]] bool on_gpu() const { return stream_ != nullptr; }
  [[nodiscard]] void* stream() const { return stream_; }

  // `work`, so often in one graph. The graph belongs to the caller.
  template <class Work>
  [[nodiscard]] void* graph_of(int times, Work work) const {
    const kernels::CudaApi& api = kernels::cuda_api();
    work();  // whatever is made at the first call cannot be captured
    api.wait(stream_);
    api.begin_capture(stream_);
    for (int i = 0; i < times; ++i) work();
    return api.end_capture(stream_);
  }

  template <class Work>
  double time_us(Work work) const {
    using Clock = std::chrono::steady_clock;
    if (stream_ == nullptr) {
      const auto start = Clock::now();
      work();
      return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    }
    const kernels::CudaApi& api = kernels::cuda_api();
    api.record(start_, stream_);
    work();
    api.record(end_, stream_);
    return api.elapsed_us(start_, end_);
  }

  Dtype dtype;
  void *in = nullptr, *out = nullptr;

 private:
  std::vector<float> host_in_, host_out_;
  CudaBlock device_in_, device_out_;
  void *stream_ = nullptr, *start_ = nullptr, *end_ = nullptr;
};

// `bytes` as profiles::collective_bytes counts them.
using Call = std::function<void(Communicator&, const Place&, std::int64_t bytes)>;
struct Kind {
  const char* name;
  Call call;
};

const std::vector<Kind>& kinds() {
  static const Call gather = [](Communicator& c, const Place& p, std::int64_t bytes) {
    c.all_gather(p.in, p.out, bytes / c.size());
  };
  static const Call exchange = [](Communicator& c, const Place& p, std::int64_t bytes) {
    c.all_to_all(p.in, p.out, bytes / c.size());
  };
  static const std::vector<Kind> list = {
      {"all_reduce",
       [](Communicator& c, const Place& p, std::int64_t bytes) {
         c.all_reduce(p.in, bytes / bytes_of(p.dtype), p.dtype);
       }},
      {"all_gather", gather},
      {"all_gather_rows", gather},
      {"reduce_scatter",
       [](Communicator& c, const Place& p, std::int64_t bytes) {
         c.reduce_scatter(p.in, p.out, bytes / bytes_of(p.dtype) / c.size(), p.dtype);
       }},
      {"exchange_rows flat", exchange},
      {"exchange_rows coordinated", exchange},
      {"exchange_rows all_gather", gather},
      {"exchange_counts flat", exchange},
      {"exchange_counts coordinated", exchange},
  };
  return list;
}

// A call at a time, all members together; the first calls touch memory and are left out.
profiles::CollectivePoint time_call(const Call& call, Communicator& host, Communicator& group,
                                    const Place& place, std::int64_t bytes) {
  constexpr double kBudgetUs = 60e3;
  constexpr int kFewest = 7, kMost = 60;
  const auto once = [&] { call(group, place, bytes); };
  void* graph = nullptr;
  if (place.on_gpu() && bytes <= kLargestInGraph) graph = place.graph_of(kCallsInGraph, once);
  std::vector<double> times;
  int calls = kMost;
  const int together = graph != nullptr ? kCallsInGraph : place.on_gpu() ? kCallsEnqueued : 1;
  const auto all_calls = [&] {
    if (graph != nullptr) return kernels::cuda_api().launch_graph(graph, place.stream());
    for (int one = 0; one < together; ++one) once();
  };
  for (int i = 0; i < calls + 2; ++i) {
    host.barrier();
    const double time = place.time_us(all_calls) / together;
    if (i < 2) {
      // Every member must make as many calls: the first one decides by its time of the second.
      double wanted =
          std::min<double>(kMost, std::max<double>(kFewest, kBudgetUs / (time * together)));
      std::vector<double> all(host.size(), 0.0);
      host.all_gather(&wanted, all.data(), sizeof wanted);
      calls = static_cast<int>(all[0]);
      continue;
    }
    times.push_back(time);
  }
  if (graph != nullptr) kernels::cuda_api().release_graph(graph);
  return {.bytes = static_cast<double>(bytes),
          .time_us = median(times),
          .spread = relative_spread(times)};
}

}  // namespace

std::int64_t collective_steps(int world) {
  return static_cast<std::int64_t>(group_sizes(world).size() * kinds().size());
}

std::vector<profiles::CollectiveTable> time_collectives(const Bootstrap& bootstrap,
                                                        CommunicatorPool& pool, bool gpu,
                                                        const std::function<void()>& progress) {
  const std::vector<int> sizes = group_sizes(bootstrap.world());
  std::vector<Members> groups;
  for (const int size : sizes) groups.push_back(first_ranks(size));
  pool.prepare(groups);
  const Place place(gpu);
  CommunicatorPool between_gpus(bootstrap, [&](const Members& members, int) {
    return std::make_unique<CudaCommunicator>(pool, members, place.stream());
  });
  if (gpu) between_gpus.prepare(groups);
  CommunicatorPool& timed = gpu ? between_gpus : pool;
  std::vector<profiles::CollectiveTable> tables;
  for (const int size : sizes) {
    const bool member = bootstrap.rank() < size;
    for (const Kind& kind : kinds()) {
      profiles::CollectiveTable table{.kind = kind.name, .group_size = size};
      const bool counts = std::string_view(kind.name).starts_with("exchange_counts");
      const std::int64_t largest = counts ? kLargestCounts
                                   : gpu  ? std::end(kSizes)[-1]
                                          : kLargestOnProcessors;
      for (const std::int64_t bytes : kSizes) {
        if (!member || bytes > largest) continue;
        const Members members = first_ranks(size);
        table.points.push_back(
            time_call(kind.call, pool.get(members), timed.get(members), place, bytes));
      }
      bootstrap.barrier();
      tables.push_back(std::move(table));
      progress();
    }
  }
  return tables;
}

}  // namespace imhotep::executor
