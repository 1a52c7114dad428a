// Packing and receiving tables on a GPU equal those of the CPU, entry by entry.

#include "kernels/dispatch.h"

#include "tests/kernels/cuda/device_route.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels {
namespace {

using test::Random;
using test::Table;

struct Packed {
  Table order, position, segments, counts;
};

Packed tables_of(const PackOrder& s) {
  return {Table((s.token_end - s.token_begin) * s.k * s.copies, -77),
          Table(s.tokens * s.k * s.copies, -77), Table(s.lanes + 1, -77),
          Table(s.experts / s.lanes * s.copies, -77)};
}

Packed pack_on_cpu(const PackOrder& shape, const Table& expert) {
  Packed out = tables_of(shape);
  pack_order(Queue{}, shape,
             {expert.data(), out.order.data(), out.position.data(), out.segments.data(),
              out.counts.data()});
  return out;
}

Packed pack_on(const DeviceQueue& queue, const PackOrder& shape, const Table& expert) {
  const Packed blank = tables_of(shape);
  const auto routes = queue.upload_raw(expert), order = queue.upload_raw(blank.order),
             position = queue.upload_raw(blank.position),
             segments = queue.upload_raw(blank.segments), counts = queue.upload_raw(blank.counts);
  const auto table = [](const DeviceMemory& memory) {
    return static_cast<std::int32_t*>(memory.data());
  };
  pack_order(queue, shape,
             {table(routes), table(order), table(position), table(segments), table(counts)});
  return {queue.download_raw<std::int32_t>(order), queue.download_raw<std::int32_t>(position),
          queue.download_raw<std::int32_t>(segments), queue.download_raw<std::int32_t>(counts)};
}

void check_packing(const DeviceQueue& queue, const PackOrder& shape, const Table& expert) {
  const Packed got = pack_on(queue, shape, expert), expected = pack_on_cpu(shape, expert);
  REQUIRE(got.order == expected.order);  // beyond the last row neither writes
  REQUIRE(got.position == expected.position);
  REQUIRE(got.segments == expected.segments);
  REQUIRE(got.counts == expected.counts);
}

TEST_CASE("packing agrees with the CPU for random degrees, lanes, copies and ranges") {
  const DeviceQueue queue(Dtype::Bf16);
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    PackOrder shape;
    shape.lanes = random.between(1, 3);
    shape.lane = random.between(0, shape.lanes - 1);
    shape.expert_degree = shape.lanes * random.between(1, 4);
    shape.experts = shape.expert_degree * random.between(1, seed % 10 == 0 ? 70 : 12);
    shape.k = random.between(1, 3);
    shape.copies = random.between(1, 3);
    shape.tokens = random.between(0, seed % 3 == 0 ? 6000 : 300);
    shape.token_end = shape.tokens;
    if (shape.lanes == 1 && seed % 2 == 0) {
      shape.token_begin = random.between(0, shape.tokens);
      shape.token_end = random.between(shape.token_begin, shape.tokens);
    }
    check_packing(queue, shape,
                  random.table(shape.tokens * shape.k, -1, static_cast<int>(shape.experts) - 1));
  }
}

TEST_CASE("packing agrees at real sizes, with skew and with everything at one expert") {
  const DeviceQueue queue(Dtype::F32);
  Random random(3);
  for (const std::int64_t tokens : {1, 64, 256, 1024, 1025, 4096, 4097, 16384, 150001}) {
    for (const std::int64_t experts : {8, 128, 1024}) {
      CAPTURE(tokens);
      CAPTURE(experts);
      const PackOrder shape{.tokens = tokens, .experts = experts, .token_end = tokens};
      Table expert = random.table(tokens, 0, experts - 1);
      check_packing(queue, shape, expert);
      for (std::int64_t t = 0; t < tokens; t += 2) expert[t] = 5;
      check_packing(queue, shape, expert);
      check_packing(queue, shape, Table(tokens, static_cast<std::int32_t>(experts - 1)));
      check_packing(queue, shape, Table(tokens, -1));
    }
  }
}

struct Received {
  Table offsets, index, range;
};

Received receive_on(const DeviceQueue& queue, const ReceiveOrder& shape, const Table& counts) {
  const auto sent = queue.upload_raw(counts),
             offsets = unwritten<std::int32_t>(queue, shape.local_experts + 1),
             index = unwritten<std::int32_t>(queue, shape.rows.bound),
             range = unwritten<std::int32_t>(queue, 2);
  receive_order(
      queue, shape,
      {static_cast<const std::int32_t*>(sent.data()), static_cast<std::int32_t*>(offsets.data()),
       static_cast<std::int32_t*>(index.data()), static_cast<std::int32_t*>(range.data())});
  return {queue.download_raw<std::int32_t>(offsets), queue.download_raw<std::int32_t>(index),
          queue.download_raw<std::int32_t>(range)};
}

TEST_CASE("received rows are ordered as on the CPU") {
  const DeviceQueue queue(Dtype::Bf16);
  const std::vector<ReceiveOrder> shapes{{1, 1, {}},  {1, 128, {}}, {2, 64, {}},    {5, 3, {}},
                                         {32, 4, {}}, {64, 1, {}},  {100, 100, {}}, {9, 1024, {}}};
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    for (ReceiveOrder shape : shapes) {
      CAPTURE(seed);
      CAPTURE(shape.sources);
      CAPTURE(shape.local_experts);
      Random random(seed);
      const std::int64_t cells = shape.sources * shape.local_experts;
      Table counts = random.table(cells, seed == 5 ? 0 : -4, 1 + 12000 / static_cast<int>(cells));
      for (auto& count : counts) count = seed == 4 ? 0 : std::max(count, 0);
      std::int64_t total = 0;
      for (const auto count : counts) total += count;
      shape.rows.bound = total + (seed % 2 == 0 ? 3 : 0);
      Received expected{Table(shape.local_experts + 1), Table(shape.rows.bound, -77), Table(2)};
      receive_order(
          Queue{}, shape,
          {counts.data(), expected.offsets.data(), expected.index.data(), expected.range.data()});
      const Received got = receive_on(queue, shape, counts);
      REQUIRE(got.offsets == expected.offsets);
      REQUIRE(got.index == expected.index);
      REQUIRE(got.range == expected.range);
    }
  }
  CHECK(queue.fault().fault == Fault::None);
}

TEST_CASE("more received rows than the bound are a fault, and the tables hold none") {
  const DeviceQueue queue(Dtype::F32);
  const Received got = receive_on(queue, {2, 2, {8, 0}}, {3, 2, 4, 1});
  CHECK(got.offsets == Table{0, 0, 0});
  CHECK(got.range == Table{0, 0});
  const FaultRecord record = queue.fault();
  CHECK(record.fault == Fault::RowsExceedBound);
  CHECK(record.values[0] == 10);
  CHECK(record.values[1] == 8);
}

}  // namespace
}  // namespace imhotep::kernels
