// Pieces read by many threads are the pieces read one after the other, wherever they land.

#include "executor/checkpoint/piece_stream.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>

#include "core/base/random.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kTensors = 40;

// Tensors of 1 to 3 million floats and many small ones.
std::string write_file(const ScratchFolder& folder) {
  std::vector<TensorEntry> tensors;
  for (std::int64_t i = 0; i < kTensors; ++i) {
    const std::int64_t size = i % 10 == 0 ? 1'000'000 + 500'000 * (i / 10) + 7 : 100 + i;
    tensors.push_back({.name = "t" + std::to_string(i), .shape = {size}});
  }
  SafetensorsWriter writer(folder.path("x.safetensors"), tensors, {});
  writer.create();
  for (const TensorEntry& tensor : tensors) {
    std::vector<float> values(static_cast<std::size_t>(tensor.shape[0]));
    const std::uint64_t seed = hash(1, static_cast<std::uint64_t>(tensor.shape[0]));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(mix64(seed + i) >> 40);
    }
    writer.write(tensor.name, {.first = 0, .count = tensor.shape[0]}, values.data());
  }
  writer.close();
  return folder.path("x.safetensors");
}

// Every tensor whole or in unequal parts, into one row of targets.
struct Jobs {
  std::vector<ReadJob> list;
  std::vector<std::byte> memory;
  std::vector<std::uint64_t> sums = std::vector<std::uint64_t>(3);

  Jobs(const SafetensorsFile& file, Dtype dtype) {
    const auto size = static_cast<std::size_t>(bytes_of(dtype));
    std::size_t at = 0;
    for (const TensorEntry& tensor : file.header().tensors) {
      const std::int64_t all = tensor.elements();
      for (std::int64_t first = 0, n = 1; first < all; n = 5 * n + 13) {
        const std::int64_t count = std::min(all - first, all % 2 == 0 ? all : n);
        list.push_back({.file = &file,
                        .tensor = &tensor,
                        .range = {first, count},
                        .target = reinterpret_cast<std::byte*>(at),
                        .dtype = dtype,
                        .sum = at % 3 == 0 ? nullptr : &sums[at % 3]});
        first += count;
        at += static_cast<std::size_t>(count) * size + (list.size() % 4 == 0 ? 8 : 0);
      }
    }
    memory.resize(at);
    for (ReadJob& job : list)
      job.target = memory.data() + reinterpret_cast<std::size_t>(job.target);
  }
};

// Copies only when it must, as a device does.
class LateLanding : public Landing {
 public:
  std::byte* buffers(std::int64_t bytes) override {
    memory_.resize(static_cast<std::size_t>(bytes));
    return memory_.data();
  }
  void deliver(void* target, const std::byte* from, std::int64_t bytes) override {
    if (broken) throw std::runtime_error("the device is gone");
    waiting_.push_back({target, from, bytes});
    ++deliveries;
  }
  void settle() override {
    for (const auto& [to, from, bytes] : waiting_) {
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    waiting_.clear();
  }
  bool broken = false;
  std::size_t deliveries = 0;

 private:
  struct Copy {
    void* to;
    const std::byte* from;
    std::int64_t bytes;
  };
  std::vector<std::byte> memory_;
  std::vector<Copy> waiting_;
};

}  // namespace

TEST_CASE("many readers leave what one reading call leaves, with the same checksums") {
  const ScratchFolder folder;
  const SafetensorsFile file(write_file(folder));
  for (const Dtype dtype : {Dtype::F32, Dtype::F64, Dtype::Bf16}) {
    Jobs expected(file, dtype);
    for (const ReadJob& job : expected.list) {
      file.read(*job.tensor, job.range, job.target, dtype, job.sum);
    }
    for (const int readers : {1, 2, 7}) {
      for (const bool direct : {true, false}) {
        CAPTURE(readers);
        CAPTURE(direct);
        Jobs jobs(file, dtype);
        LateLanding landing;
        std::int64_t last = 0, whole = 0;
        read_pieces(jobs.list, {.readers = readers,
                                .landing = direct ? nullptr : &landing,
                                .progress = [&](std::int64_t done, std::int64_t all) {
                                  CHECK(done >= last);
                                  last = done;
                                  whole = all;
                                }});
        CHECK(jobs.memory == expected.memory);
        CHECK(jobs.sums == expected.sums);
        CHECK(last == whole);
        CHECK(whole > 4'000'000);
        if (!direct) CHECK(landing.deliveries < jobs.list.size());  // neighbours go together
      }
    }
  }
}

TEST_CASE("nothing to read is read at once") {
  LateLanding landing;
  CHECK_NOTHROW(read_pieces({}, {}));
  CHECK_NOTHROW(read_pieces({}, {.landing = &landing}));
}

TEST_CASE("of several pieces that cannot be read the first one is complained about") {
  const ScratchFolder folder;
  const std::string path = write_file(folder);
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  std::string first;
  for (int i = 0; i < 12; ++i) {
    Jobs jobs(file, Dtype::F32);
    LateLanding landing;
    const std::string text = complaint([&] {
      read_pieces(jobs.list, {.readers = 1 + i % 6, .landing = i % 2 == 0 ? nullptr : &landing});
    });
    if (i == 0) first = text;
    CHECK(holds(text, "truncated"));
    CHECK(text == first);
  }
}

TEST_CASE("a device that fails ends the reading with its own words") {
  const ScratchFolder folder;
  const SafetensorsFile file(write_file(folder));
  Jobs jobs(file, Dtype::F32);
  LateLanding landing;
  landing.broken = true;
  CHECK(complaint([&] { read_pieces(jobs.list, {.readers = 3, .landing = &landing}); }) ==
        "the device is gone");
}

}  // namespace imhotep::executor
