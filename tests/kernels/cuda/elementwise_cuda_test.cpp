#include "kernels/elementwise.h"

#include "kernels/initialize.h"
#include "tests/kernels/cuda/dense_support.h"

namespace imhotep::kernels::test {
namespace {

TEST_CASE("column_sum on a GPU agrees with the CPU and repeats its bits") {
  on_each_type([](const DeviceQueue& queue) {
    for (const ColumnSum s :
         {ColumnSum{1, 1}, ColumnSum{3, 2}, ColumnSum{5000, 2}, ColumnSum{129, 50, false},
          ColumnSum{700, 1000, false}, ColumnSum{2100, 1024}, ColumnSum{33, 16384},
          ColumnSum{0, 50, false}}) {
      CAPTURE(s.rows);
      CAPTURE(s.cols);
      const auto x = random_values(s.rows * s.cols, 1, queue.dtype());
      const auto before = random_values(s.cols, 2, queue.dtype());
      auto expected = before;
      column_sum(kCpu, s, {x.data(), expected.data()});
      const auto in = queue.upload(x), out = queue.upload(before), again = queue.upload(before);
      column_sum(queue, s, {in.data(), out.data()});
      column_sum(queue, s, {in.data(), again.data()});
      check_close(repeated(queue, out, again, queue.dtype()), expected,
                  chained_tolerance(queue.dtype()));
    }
    const auto out = queue.upload({1, 2});
    column_sum(queue, {0, 2}, {nullptr, out.data()});
    CHECK(queue.download(out) == std::vector<float>{1, 2});
  });
}

TEST_CASE("add on a GPU agrees with the CPU, whatever the address") {
  on_each_type([](const DeviceQueue& queue) {
    for (const std::int64_t elements : {1, 7, 8, 1023, 300000}) {
      for (const std::int64_t skip : {0, 1}) {
        CAPTURE(elements);
        CAPTURE(skip);
        const auto x = random_values(elements + skip, 1, queue.dtype()),
                   y = random_values(elements + skip, 2, queue.dtype());
        auto expected = y;
        add(kCpu, {elements}, {x.data() + skip, expected.data() + skip});
        const auto in = queue.upload(x), out = queue.upload(y);
        const std::int64_t at = skip * bytes_of(queue.dtype());
        add(queue, {elements},
            {static_cast<std::byte*>(in.data()) + at, static_cast<std::byte*>(out.data()) + at});
        check_close(queue.download(out), expected, tolerance(queue.dtype()));
      }
    }
    add(queue, {0}, {});
  });
}

TEST_CASE("fill writes zeros of every type and nothing beyond") {
  for (const Dtype dtype : {Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::I32}) {
    const DeviceQueue queue(dtype);
    const auto memory = queue.poisoned(13, dtype);
    fill(queue, {11}, {memory.data()});
    const auto bytes = queue.download_raw<unsigned char>(memory);
    const auto end = static_cast<std::size_t>(11 * bytes_of(dtype));
    for (std::size_t i = 0; i < bytes.size(); ++i) CHECK(bytes[i] == (i < end ? 0x00 : 0xff));
  }
}

TEST_CASE("both devices start from the same model") {
  on_each_type([](const DeviceQueue& queue) {
    constexpr std::int64_t kCount = 20001;
    const Initialize shape{.seed = 7,
                           .key = 11,
                           .first = 123456789012,
                           .count = kCount,
                           .constant = 0.5,
                           .deviation = 0.02};
    std::vector<float> expected(kCount);
    initialize(kCpu, shape, {expected.data()});
    const auto out = queue.poisoned(kCount);
    initialize(queue, shape, {out.data()});
    const auto values = queue.download(out);
    std::int64_t equal = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float x = queue.dtype() == Dtype::Bf16 ? from_bf16(to_bf16(expected[i])) : expected[i];
      equal += values[i] == x ? 1 : 0;
    }
    CHECK(equal >= kCount - 2);
    check_close(values, expected, tolerance(queue.dtype()));
    initialize(queue, {.count = 3, .constant = 1.25}, {out.data()});
    CHECK(queue.download(out)[2] == 1.25F);
    CHECK(queue.download(out)[3] == values[3]);
  });
}

}  // namespace
}  // namespace imhotep::kernels::test
