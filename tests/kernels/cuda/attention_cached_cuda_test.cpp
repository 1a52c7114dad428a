#include "kernels/attention_cached.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels {
namespace {

using Table = std::vector<std::int32_t>;

struct Row {
  std::int32_t sequence = 0, position = 0;  // position -1: padding
};

// Pools in which every sequence holds the positions before its first row of the call; all other
// slots hold NaN, so that reading one shows.
struct Call {
  AttentionCached shape;
  Table positions, sequences, blocks;
  std::vector<float> qkv, k, v;

  Call(AttentionCached s, const std::vector<Row>& rows, std::int32_t count, std::uint64_t seed,
       Dtype dtype)
      : shape(s), blocks(static_cast<std::size_t>(count * s.max_pages)) {
    shape.rows = static_cast<std::int64_t>(rows.size());
    for (const Row& row : rows) {
      positions.push_back(row.position);
      sequences.push_back(row.sequence);
    }
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(seed));
    const std::int64_t width = shape.heads * shape.head_dim;
    qkv = random_values(shape.rows * 3 * width, seed, dtype);
    k.assign(blocks.size() * shape.page_size * width, std::numeric_limits<float>::quiet_NaN());
    v = k;
    const auto keys = random_values(static_cast<std::int64_t>(k.size()), seed + 1, dtype);
    const auto values = random_values(static_cast<std::int64_t>(k.size()), seed + 2, dtype);
    for (std::int32_t sequence = 0; sequence < count; ++sequence) {
      for (std::int64_t p = 0; p < first_of(sequence); ++p) {
        const std::int64_t at = slot(sequence, p) * width;
        std::copy_n(keys.begin() + at, width, k.begin() + at);
        std::copy_n(values.begin() + at, width, v.begin() + at);
      }
    }
  }

  [[nodiscard]] std::int64_t first_of(std::int32_t sequence) const {
    std::int64_t first = shape.max_pages * shape.page_size;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (sequences[i] == sequence && positions[i] >= 0) {
        first = std::min<std::int64_t>(first, positions[i]);
      }
    }
    return first;
  }
  [[nodiscard]] std::int64_t slot(std::int32_t sequence, std::int64_t position) const {
    const std::int64_t page =
        blocks[static_cast<std::size_t>(sequence * shape.max_pages + position / shape.page_size)];
    return page * shape.page_size + position % shape.page_size;
  }
};

struct Result {
  std::vector<float> ctx, k, v;
};

Result on_cpu(const Call& c) {
  Result r{std::vector<float>(c.qkv.size() / 3), c.k, c.v};
  std::vector<float> scratch(static_cast<std::size_t>(attention_cached_scratch_elements(c.shape)));
  attention_cached({}, c.shape,
                   {c.qkv.data(), c.positions.data(), c.sequences.data(), c.blocks.data(),
                    r.k.data(), r.v.data(), r.ctx.data(), scratch.data()});
  return r;
}

Result on_gpu(const DeviceQueue& device, const Call& c) {
  const DeviceMemory qkv = device.upload(c.qkv), k = device.upload(c.k), v = device.upload(c.v);
  const DeviceMemory positions = device.upload_raw(c.positions),
                     sequences = device.upload_raw(c.sequences),
                     blocks = device.upload_raw(c.blocks);
  const DeviceMemory ctx = device.poisoned(static_cast<std::int64_t>(c.qkv.size()) / 3);
  const auto table = [](const DeviceMemory& m) {
    return static_cast<const std::int32_t*>(m.data());
  };
  attention_cached(device, c.shape,
                   {qkv.data(), table(positions), table(sequences), table(blocks), k.data(),
                    v.data(), ctx.data(), nullptr});
  return {device.download(ctx), device.download(k), device.download(v)};
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return x == y || (std::isnan(x) && std::isnan(y));
         });
}

void check_call(const DeviceQueue& device, const Call& c) {
  CAPTURE(c.shape.rows);
  CAPTURE(c.shape.heads);
  CAPTURE(c.shape.head_dim);
  CAPTURE(c.shape.page_size);
  const Result expected = on_cpu(c), got = on_gpu(device, c);
  check_close(got.ctx, expected.ctx, chained_tolerance(device.dtype()));
  CHECK(same_bits(got.k, expected.k));
  CHECK(same_bits(got.v, expected.v));
  CHECK(on_gpu(device, c).ctx == got.ctx);
}

constexpr Dtype kTypes[] = {Dtype::F32, Dtype::Bf16};

// One row each of some sequences, whose lengths differ, and padding.
std::vector<Row> decode_rows(std::int32_t sequences, std::int32_t capacity) {
  std::vector<Row> rows;
  for (std::int32_t s = 0; s < sequences; ++s) {
    rows.push_back({s, s == 0 ? capacity - 1 : s * 37 % capacity});
    if (s % 5 == 3) rows.push_back({0, -1});
  }
  return rows;
}

TEST_CASE("a decode step over pages equals the CPU's") {
  for (const Dtype dtype : kTypes) {
    const DeviceQueue device(dtype);
    std::uint64_t seed = 900;
    for (const AttentionCached& shape :
         {AttentionCached{.heads = 4, .head_dim = 64, .page_size = 16, .max_pages = 40},
          AttentionCached{.heads = 3, .head_dim = 128, .page_size = 6, .max_pages = 50},
          AttentionCached{.heads = 16, .head_dim = 64, .page_size = 1, .max_pages = 129},
          AttentionCached{.heads = 2, .head_dim = 20, .page_size = 5, .max_pages = 9},
          AttentionCached{.heads = 1, .head_dim = 1, .page_size = 3, .max_pages = 4},
          AttentionCached{.heads = 1, .head_dim = 256, .page_size = 16, .max_pages = 4}}) {
      AttentionCached s = shape;
      s.sequences = 32;
      const auto capacity = static_cast<std::int32_t>(s.max_pages * s.page_size);
      check_call(device, Call(s, decode_rows(9, capacity), 9, seed += 10, dtype));
    }
    CHECK(device.fault().fault == Fault::None);
  }
}

TEST_CASE("one long sequence is divided between the blocks of a cluster") {
  for (const Dtype dtype : kTypes) {
    const DeviceQueue device(dtype);
    for (const std::int32_t position : {0, 1, 63, 64, 500, 3001, 4095}) {
      CAPTURE(position);
      const AttentionCached shape{
          .heads = 4, .head_dim = 64, .page_size = 16, .max_pages = 256, .sequences = 1};
      check_call(device, Call(shape, {{0, position}}, 1, 950, dtype));
    }
  }
}

TEST_CASE("a hundred rows of many heads equal the CPU's") {
  const DeviceQueue device(Dtype::Bf16);
  const AttentionCached shape{
      .heads = 8, .head_dim = 128, .page_size = 16, .max_pages = 6, .sequences = 128};
  check_call(device, Call(shape, decode_rows(100, 96), 100, 960, Dtype::Bf16));
}

// A chunk that begins inside a page, single rows, padding, a chunk that crosses a tile of rows.
std::vector<Row> mixed_rows() {
  std::vector<Row> rows;
  for (std::int32_t i = 0; i < 70; ++i) rows.push_back({0, 37 + i});
  for (std::int32_t s = 2; s < 6; ++s) rows.push_back({s, 11 * s});
  rows.push_back({0, -1});
  for (std::int32_t i = 0; i < 5; ++i) rows.push_back({6, 130 + i});
  for (std::int32_t i = 0; i < 90; ++i) rows.push_back({1, i});
  rows.push_back({7, 0});
  rows.push_back({0, -1});
  return rows;
}

TEST_CASE("chunks of several sequences and single rows in one call equal the CPU's") {
  for (const Dtype dtype : kTypes) {
    const DeviceQueue device(dtype);
    std::uint64_t seed = 1000;
    for (const std::int64_t head_dim : {64, 128, 24}) {
      for (const std::int64_t page_size : {16, 7}) {
        const AttentionCached shape{
            .heads = 2, .head_dim = head_dim, .page_size = page_size, .max_pages = 30};
        check_call(device, Call(shape, mixed_rows(), 8, seed += 10, dtype));
      }
    }
    CHECK(device.fault().fault == Fault::None);
  }
}

TEST_CASE("a call that looks like a decode step may hold a chunk") {
  for (const Dtype dtype : kTypes) {
    const DeviceQueue device(dtype);
    std::vector<Row> rows{{1, 3}, {0, 20}, {0, 21}, {0, -1}, {0, 22}, {2, 0}};
    for (std::int32_t i = 0; i < 40; ++i) rows.push_back({3, 5 + i});
    const AttentionCached shape{
        .heads = 4, .head_dim = 64, .page_size = 8, .max_pages = 20, .sequences = 64};
    check_call(device, Call(shape, rows, 4, 1100, dtype));
  }
}

TEST_CASE("a position beyond the pages of a sequence is reported by the GPU") {
  for (const std::int64_t sequences : {0, 8}) {  // as prefill, as decode
    for (const std::int64_t head_dim : {64, 10}) {
      CAPTURE(sequences);
      CAPTURE(head_dim);
      const DeviceQueue device(Dtype::F32);
      const AttentionCached shape{
          .heads = 1, .head_dim = head_dim, .page_size = 4, .max_pages = 5, .sequences = sequences};
      const Result got =
          on_gpu(device, Call(shape, {{0, 3}, {1, 20}, {2, 19}}, 3, 1200, Dtype::F32));
      const FaultRecord fault = device.fault();
      CHECK(fault.fault == Fault::PositionOutOfRange);
      CHECK(fault.values[0] == 20);
      CHECK(fault.values[1] == 20);
      for (std::int64_t i = 0; i < head_dim; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const auto width = static_cast<std::size_t>(head_dim);
        CHECK(std::isfinite(got.ctx[at]));
        CHECK(got.ctx[width + at] == 0);
        CHECK(std::isfinite(got.ctx[2 * width + at]));
      }
    }
  }
}

TEST_CASE("attention over pages of no rows does nothing on a GPU") {
  const DeviceQueue device(Dtype::Bf16);
  CHECK_NOTHROW(attention_cached(
      device, {.rows = 0, .heads = 2, .head_dim = 64, .page_size = 4, .max_pages = 2}, {}));
}

}  // namespace
}  // namespace imhotep::kernels
