#include "kernels/elementwise.h"

#include "core/base/error.h"
#include "kernels/vector_math.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

TEST_CASE("column sums are added to what is there, for any number of rows") {
  Random random(11);
  for (const std::int64_t rows : {0, 1, 3, 4, 5, 9}) {
    for (const std::int64_t cols : {1, 7, 16, 37}) {
      CAPTURE(rows);
      CAPTURE(cols);
      const auto x = random.normals<float>(rows * cols);
      auto out = random.normals<float>(cols);
      std::vector<double> expected(out.begin(), out.end());
      for (std::int64_t i = 0; i < rows * cols; ++i) expected[i % cols] += x[i];
      column_sum(queue_of<float>(), {rows, cols}, {x.data(), out.data()});
      CHECK(scaled_error(out, expected) < 1e-6);
    }
  }
}

TEST_CASE("add and fill touch the given elements and no other") {
  std::vector<float> x(40, 2), y(40, 3);
  add(queue_of<float>(), {33}, {x.data(), y.data()});
  CHECK(y[32] == 5);
  CHECK(y[33] == 3);
  fill(queue_of<float>(), {7}, {y.data()});
  CHECK(y[6] == 0);
  CHECK(y[7] == 5);
  Table table(5, 9);
  fill({Device::Cpu, Dtype::I32, nullptr}, {4}, {table.data()});
  CHECK(table == Table{0, 0, 0, 0, 9});
  fill(queue_of<float>(), {0}, {nullptr});
  CHECK_THROWS_AS(add(queue_of<float>(), {-1}, {x.data(), y.data()}), Error);
}

TEST_CASE("a device or a type without a kernel is named") {
  std::vector<float> x(4);
  const AddOperands operands{x.data(), x.data()};
  CHECK_THROWS_WITH_AS(add({Device::Cpu, Dtype::Bf16, nullptr}, {4}, operands),
                       "add: this build has no kernel for bf16 on a CPU queue", Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
