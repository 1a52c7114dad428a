// Collectives between GPUs against sums made on the host; run twice, with kernels that store into
// peers' memory and with IMHOTEP_PEER_KERNELS=0.

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/base/random.h"
#include "executor/comm/communicator_pool.h"
#include "executor/comm/cuda_communicator.h"
#include "executor/runtime/own_device.h"
#include "tests/executor/mpi_main.h"

namespace imhotep::executor {
namespace {

// Device memory that a test fills and reads.
class DeviceArray {
 public:
  DeviceArray(std::int64_t bytes, void* stream)
      : bytes_(bytes), stream_(stream), data_(kernels::cuda_api().allocate(bytes)) {
    kernels::cuda_api().set(data_, 0xff, bytes, stream);  // NaN: what is not written shows
  }
  ~DeviceArray() { kernels::cuda_api().release(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  template <class T>
  void put(const std::vector<T>& values, std::int64_t at = 0) {
    const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(T));
    kernels::cuda_api().copy_in(static_cast<char*>(data_) + at, values.data(), bytes, stream_);
    kernels::cuda_api().wait(stream_);
  }
  template <class T>
  std::vector<T> get() const {
    std::vector<T> values(static_cast<std::size_t>(bytes_) / sizeof(T));
    kernels::cuda_api().copy_out(values.data(), data_, bytes_, stream_);
    kernels::cuda_api().wait(stream_);
    return values;
  }
  [[nodiscard]] char* data() const { return static_cast<char*>(data_); }

 private:
  std::int64_t bytes_;
  void *stream_, *data_;
};

struct Gpus {
  CommunicatorPool host;
  void* stream;
  CommunicatorPool pool;
  Members all;

  Gpus()
      : host(test_bootstrap()),
        stream(
            (kernels::cuda_api().use_device(own_device()), kernels::cuda_api().make_stream(false))),
        pool(test_bootstrap(), [this](const Members& members, int) {
          return std::make_unique<CudaCommunicator>(host, members, stream);
        }) {
    for (int r = 0; r < test_bootstrap().world(); ++r) all.emplace_back(r);
    host.prepare({all});
    pool.prepare({all});
  }
  Communicator& group() { return pool.get(all); }
};

float value_of(int rank, std::int64_t i) {
  return static_cast<float>(
      uniform(7, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(i), 0) - 0.5);
}

std::vector<float> values_of(int rank, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) values[i] = value_of(rank, i);
  return values;
}

// Below, at and above what one block and one shot take; not only multiples of 16 bytes.
constexpr std::int64_t kSizes[] = {1, 3, 2048, 2049, 70'001, 131'072, 1'000'003};

}  // namespace

TEST_CASE("GPUs sum what their ranks hold, and all get the same bits") {
  Gpus gpus;
  Communicator& group = gpus.group();
  const int ranks = group.size();
  for (int round = 0; round < 3; ++round) {  // halves of the stage alternate
    for (const std::int64_t count : kSizes) {
      CAPTURE(count);
      DeviceArray data(count * 4, gpus.stream);
      data.put(values_of(group.rank() + round, count));
      group.all_reduce(data.data(), count, Dtype::F32);
      const auto got = data.get<float>();
      double worst = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        double sum = 0;
        for (int r = 0; r < ranks; ++r) sum += static_cast<double>(value_of(r + round, i));
        worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - sum));
        if (std::isnan(got[i])) worst = 1e9;
      }
      CHECK(worst < 1e-6);
      std::vector<float> everybody(static_cast<std::size_t>(count * ranks));
      gpus.host.get(gpus.all).all_gather(got.data(), everybody.data(), count * 4);
      for (int r = 0; r < ranks; ++r) {
        CHECK(std::equal(got.begin(), got.end(), everybody.begin() + r * count));
      }
    }
  }
}

TEST_CASE("GPUs gather and scatter as hosts do") {
  Gpus gpus;
  Communicator& group = gpus.group();
  const int ranks = group.size();
  for (const std::int64_t count : kSizes) {
    CAPTURE(count);
    DeviceArray all(count * ranks * 4, gpus.stream), own(count * 4, gpus.stream);
    own.put(values_of(group.rank(), count));
    group.all_gather(own.data(), all.data(), count * 4);
    const auto got = all.get<float>();
    bool equal = true;
    for (int r = 0; r < ranks; ++r) {
      for (std::int64_t i = 0; i < count; ++i) equal &= got[r * count + i] == value_of(r, i);
    }
    CHECK(equal);
    // Every rank holds all parts; part r of the sum goes to rank r.
    group.reduce_scatter(all.data(), own.data(), count, Dtype::F32);
    const auto part = own.get<float>();
    double worst = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const double sum = ranks * static_cast<double>(value_of(group.rank(), i));
      worst = std::max(worst, std::fabs(static_cast<double>(part[i]) - sum));
    }
    CHECK(worst < 1e-6);
  }
}

TEST_CASE("GPUs send pieces to each other") {
  Gpus gpus;
  Communicator& group = gpus.group();
  const int ranks = group.size();
  constexpr std::int64_t kRow = 256;
  // Rank r sends r + p + 1 rows to rank p.
  PieceLists send(ranks), receive(ranks);
  std::int64_t out = 0, in = 0;
  for (int p = 0; p < ranks; ++p) {
    const std::int64_t rows = group.rank() + p + 1;
    send.add(p, out, rows * kRow);
    receive.add(p, in, rows * kRow);
    out += rows * kRow;
    in += rows * kRow;
  }
  DeviceArray from(out, gpus.stream), to(in, gpus.stream);
  from.put(values_of(group.rank(), out / 4));
  group.transfer("test", from.data(), to.data(), send, receive);
  const auto got = to.get<float>();
  std::size_t at = 0;
  for (int p = 0; p < ranks; ++p) {
    std::int64_t begin = 0;
    for (int q = 0; q < group.rank(); ++q) begin += (p + q + 1) * kRow / 4;
    for (std::int64_t i = 0; i < (group.rank() + p + 1) * kRow / 4; ++i, ++at) {
      REQUIRE(got[at] == value_of(p, begin + i));
    }
  }
}

}  // namespace imhotep::executor
