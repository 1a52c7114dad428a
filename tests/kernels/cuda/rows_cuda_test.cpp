// Rows moved and summed on a GPU: moves are exact, sums agree with the CPU's fp32 form.

#include "kernels/combine.h"
#include "kernels/dispatch.h"
#include "tests/kernels/cuda/device_route.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels {
namespace {

using test::Random;
using test::Table;

const std::int32_t* table(const DeviceMemory& memory) {
  return static_cast<const std::int32_t*>(memory.data());
}
void* row_at(const DeviceMemory& memory, std::int64_t elements, Dtype dtype) {
  return static_cast<std::byte*>(memory.data()) + elements * bytes_of(dtype);
}

Table permutation(Random& random, std::int64_t count) {
  Table order(count);
  for (std::int64_t i = 0; i < count; ++i) order[i] = static_cast<std::int32_t>(i);
  for (std::int64_t i = count - 1; i > 0; --i) std::swap(order[i], order[random.between(0, i)]);
  return order;
}

void check_moves(const DeviceQueue& queue, std::int64_t hidden, std::int64_t rows, bool inverse) {
  const Dtype dtype = queue.dtype();
  CAPTURE(static_cast<int>(dtype));
  CAPTURE(hidden);
  CAPTURE(rows);
  CAPTURE(inverse);
  Random random(static_cast<std::uint64_t>(hidden + rows));
  const std::int64_t held = rows + 5, begin = 2;
  const auto values = random_values(held * hidden, 9, dtype);
  const Table index = permutation(random, held);
  const Table range{begin, static_cast<std::int32_t>(begin + rows)};
  std::vector<float> expected(values.size(), -9.0F);
  const GatherRows shape{{rows + 1, 0}, hidden, inverse};
  gather_rows(Queue{}, shape, {values.data(), index.data(), range.data(), expected.data()});
  const auto in = queue.upload(values),
             out = queue.upload(std::vector<float>(values.size(), -9.0F));
  const auto far = queue.upload_raw(index), limits = queue.upload_raw(range);
  gather_rows(queue, shape, {in.data(), table(far), table(limits), out.data()});
  CHECK(queue.download(out) == expected);
  CHECK(queue.fault().fault == Fault::None);
}

TEST_CASE("gathered rows are copies, in both directions and for any row size") {
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    const DeviceQueue queue(dtype);
    for (const std::int64_t hidden : {1, 7, 8, 24, 1000, 1024, 2048, 2056}) {
      for (const std::int64_t rows : {0, 1, 37, 300}) {
        check_moves(queue, hidden, rows, false);
        check_moves(queue, hidden, rows, true);
      }
    }
  }
  check_moves(DeviceQueue(Dtype::Bf16), 1024, 9000, false);
}

TEST_CASE("rows beyond the bound are a fault and stay where they are") {
  const DeviceQueue queue(Dtype::F32);
  const auto in = queue.upload({1, 2, 3, 4, 5}), out = queue.upload({-9, -9, -9, -9, -9});
  const auto index = queue.upload_raw(Table{4, 3, 2, 1, 0}), range = queue.upload_raw(Table{1, 5});
  gather_rows(queue, {{2, 0}, 1}, {in.data(), table(index), table(range), out.data()});
  CHECK(queue.download(out) == std::vector<float>{-9, 4, 3, -9, -9});
  const FaultRecord record = queue.fault();
  CHECK(record.fault == Fault::RowsExceedBound);
  CHECK(record.values[0] == 4);
  CHECK(record.values[1] == 2);
}

// Positions of [tokens, k, copies] in a random order of rows; some routes are dropped.
struct Placed {
  Table position, window;
  std::int64_t rows = 0;
  std::vector<float> values, weight, dy;
};

Placed place(const Combine& shape, Dtype dtype, bool windowed) {
  Random random(static_cast<std::uint64_t>(shape.hidden + shape.tokens + shape.k));
  Placed out;
  for (std::int64_t r = 0; r < shape.tokens * shape.k; ++r) {
    const bool dropped = random.between(0, 3) == 0;
    for (std::int64_t c = 0; c < shape.copies; ++c) {
      out.position.push_back(static_cast<std::int32_t>(dropped ? -1 : out.rows++));
    }
  }
  const Table order = permutation(random, out.rows);
  for (auto& p : out.position) p = p >= 0 ? order[p] : -1;
  if (windowed) {
    out.window = {static_cast<std::int32_t>(out.rows / 4),
                  static_cast<std::int32_t>(out.rows - out.rows / 3)};
    out.rows = out.window[1] - out.window[0];
  }
  out.values = random_values(out.rows * shape.hidden, 1, dtype);
  out.weight = random_values(shape.tokens * shape.k, 2, Dtype::F32);
  out.dy = random_values(shape.tokens * shape.hidden, 3, dtype);
  return out;
}

struct Case {
  Combine shape;
  bool windowed = false;
};

const std::vector<Combine> kShapes{{0, 1, 1, 8},      {1, 1, 1, 1},      {5, 1, 1, 16},
                                   {37, 2, 1, 33},    {64, 3, 2, 104},   {90, 1, 3, 1028},
                                   {500, 1, 1, 1024}, {300, 2, 1, 2048}, {123, 1, 1, 1608}};

// Calls check(queue, case) for both types, all shapes, with and without a window of rows.
template <class Check>
void for_cases(Check check) {
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    const DeviceQueue queue(dtype);
    for (const Combine& shape : kShapes) {
      for (const bool windowed : {false, true}) {
        CAPTURE(static_cast<int>(dtype));
        CAPTURE(shape.tokens);
        CAPTURE(shape.hidden);
        CAPTURE(windowed);
        check(queue, Case{shape, windowed});
      }
    }
  }
}

void check_combine(const DeviceQueue& queue, const Case& c) {
  const Combine& s = c.shape;
  const Placed at = place(s, queue.dtype(), c.windowed);
  const std::int32_t* window = c.windowed ? at.window.data() : nullptr;
  std::vector<float> expected(at.dy.size());
  combine(Queue{}, s,
          {at.values.data(), window, at.position.data(), at.weight.data(), expected.data()});
  const auto rows = queue.upload(at.values), weight = queue.upload_raw(at.weight);
  const auto position = queue.upload_raw(at.position), range = queue.upload_raw(at.window);
  std::vector<std::vector<float>> results;
  for (int turn = 0; turn < 2; ++turn) {
    const auto y = queue.poisoned(s.tokens * s.hidden);
    combine(queue, s,
            {rows.data(), c.windowed ? table(range) : nullptr, table(position), weight.data(),
             y.data()});
    results.push_back(queue.download(y));
  }
  check_close(results[0], expected, tolerance(queue.dtype()));
  CHECK(results[0] == results[1]);
}

TEST_CASE("combined rows agree with the CPU") { for_cases(check_combine); }

void check_scatter(const DeviceQueue& queue, const Case& c, bool accumulate) {
  const ScatterSum s{c.shape.tokens, c.shape.k, c.shape.copies, c.shape.hidden, accumulate};
  CAPTURE(accumulate);
  const Placed at = place(c.shape, queue.dtype(), c.windowed);
  std::vector<float> expected = at.dy;
  scatter_sum(Queue{}, s,
              {at.values.data(), c.windowed ? at.window.data() : nullptr, at.position.data(),
               expected.data()});
  const auto rows = queue.upload(at.values);
  const auto position = queue.upload_raw(at.position), range = queue.upload_raw(at.window);
  const auto dn = accumulate ? queue.upload(at.dy) : queue.poisoned(s.tokens * s.hidden);
  scatter_sum(queue, s,
              {rows.data(), c.windowed ? table(range) : nullptr, table(position), dn.data()});
  check_close(queue.download(dn), expected, tolerance(queue.dtype()));
}

TEST_CASE("scattered sums agree with the CPU, added or written") {
  for_cases([](const DeviceQueue& queue, const Case& c) {
    check_scatter(queue, c, false);
    check_scatter(queue, c, true);
  });
}

// d_rows lie inside their memory, so that a write beside the window shows; eight rows keep them
// aligned for any hidden size.
void check_combine_grad(const DeviceQueue& queue, const Case& c) {
  constexpr std::int64_t kBefore = 8;
  const CombineGrad s{c.shape.tokens, c.shape.k, c.shape.copies, c.shape.hidden};
  const Placed at = place(c.shape, queue.dtype(), c.windowed);
  const std::int32_t* window = c.windowed ? at.window.data() : nullptr;
  std::vector<float> d_rows((at.rows + 2 * kBefore) * s.hidden, -9.0F), d_weight(at.weight.size());
  combine_grad(Queue{}, s,
               {at.dy.data(), at.values.data(), window, at.position.data(), at.weight.data(),
                window, d_rows.data() + kBefore * s.hidden, d_weight.data()});
  const auto dy = queue.upload(at.dy), rows = queue.upload(at.values),
             weight = queue.upload_raw(at.weight);
  const auto position = queue.upload_raw(at.position), range = queue.upload_raw(at.window);
  const std::int32_t* limits = c.windowed ? table(range) : nullptr;
  std::vector<float> first;
  for (int turn = 0; turn < 2; ++turn) {
    const auto got_rows = queue.upload(std::vector<float>(d_rows.size(), -9.0F));
    const auto got_weight = queue.poisoned(s.tokens * s.k, Dtype::F32);
    combine_grad(queue, s,
                 {dy.data(), rows.data(), limits, table(position), weight.data(), limits,
                  row_at(got_rows, kBefore * s.hidden, queue.dtype()), got_weight.data()});
    check_close(queue.download(got_rows), d_rows, tolerance(queue.dtype()));
    const auto dots = queue.download(got_weight, Dtype::F32);
    check_close(dots, d_weight, chained_tolerance(Dtype::F32));
    if (turn == 0) first = dots;
    CHECK(dots == first);
  }
}

TEST_CASE("the gradient of combine agrees with the CPU and writes its window only") {
  for_cases(check_combine_grad);
}

}  // namespace
}  // namespace imhotep::kernels
