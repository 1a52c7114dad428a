#include "kernels/gemm.h"

#include "core/base/error.h"
#include "kernels/vector_math.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

struct Matrices {
  std::vector<double> a, b, bias, addend, c, bias_grad;
};

Matrices random_matrices(const Gemm& shape, std::uint64_t seed) {
  Random random(seed);
  return {random.normals<double>(shape.m * shape.k), random.normals<double>(shape.k * shape.n),
          random.normals<double>(shape.n),           random.normals<double>(shape.m * shape.n),
          random.normals<double>(shape.m * shape.n), random.normals<double>(shape.m)};
}

std::vector<double> column_sums(const Gemm& s, const Matrices& in) {
  std::vector<double> sums(s.accumulate ? in.bias_grad : std::vector<double>(s.m));
  for (std::int64_t l = 0; l < s.k; ++l) {
    for (std::int64_t i = 0; i < s.m; ++i) sums[i] += in.a[l * s.m + i];
  }
  return sums;
}

// The result and, for BiasGelu, what precedes the activation.
std::pair<std::vector<double>, std::vector<double>> by_definition(const Gemm& s,
                                                                  const Matrices& in) {
  std::vector<double> c(s.m * s.n), pre(s.m * s.n);
  for (std::int64_t i = 0; i < s.m; ++i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      double sum = s.accumulate ? in.c[i * s.n + j] : 0;
      for (std::int64_t l = 0; l < s.k; ++l) {
        sum += in.a[s.transpose_a ? l * s.m + i : i * s.k + l] *
               in.b[s.transpose_b ? j * s.k + l : l * s.n + j];
      }
      if (s.epilogue == Epilogue::GeluGrad) {
        c[i * s.n + j] = sum * gelu_derivative(in.addend[i * s.n + j]);
        continue;
      }
      const bool biased = s.epilogue != Epilogue::None && s.epilogue != Epilogue::BiasGrad;
      if (biased) sum += in.bias[j];
      if (s.epilogue == Epilogue::BiasResidual) sum += in.addend[i * s.n + j];
      pre[i * s.n + j] = sum;
      c[i * s.n + j] = s.epilogue == Epilogue::BiasGelu ? gelu(sum) : sum;
    }
  }
  return {c, pre};
}

template <class T>
void check(const Gemm& shape, std::uint64_t seed) {
  CAPTURE(shape.m);
  CAPTURE(shape.n);
  CAPTURE(shape.k);
  CAPTURE(shape.transpose_a);
  CAPTURE(shape.transpose_b);
  CAPTURE(static_cast<int>(shape.epilogue));
  CAPTURE(seed);
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
  const Matrices in = random_matrices(shape, seed);
  const auto [expected, expected_pre] = by_definition(shape, in);
  const auto a = cast<T>(in.a), b = cast<T>(in.b), bias = cast<T>(in.bias),
             addend = cast<T>(in.addend);
  auto c = cast<T>(in.c), bias_grad = cast<T>(in.bias_grad);
  std::vector<T> pre(c.size());
  if (shape.epilogue == Epilogue::GeluGrad) pre = addend;
  GemmOperands operands{a.data(),   b.data(), bias.data(),     addend.data(),
                        pre.data(), c.data(), bias_grad.data()};
  gemm(queue_of<T>(), shape, operands);
  CHECK(scaled_error(c, expected, 1) < tolerance);
  if (shape.epilogue == Epilogue::BiasGrad) {
    CHECK(scaled_error(bias_grad, column_sums(shape, in), 1) < tolerance);
  } else {
    CHECK(bias_grad == cast<T>(in.bias_grad));
  }
  if (shape.epilogue != Epilogue::BiasGelu) return;
  CHECK(scaled_error(pre, expected_pre, 1) < tolerance);
  operands.pre = nullptr;
  std::fill(c.begin(), c.end(), T(7));
  gemm(queue_of<T>(), shape, operands);
  CHECK(scaled_error(c, expected, 1) < tolerance);
}

TEST_CASE("products with few rows or few columns, every transposition") {
  std::uint64_t seed = 31;
  for (const std::int64_t m : {1, 2, 3, 4, 5, 7, 8, 9, 16, 23, 24, 25}) {
    for (const std::int64_t n : {1, 2, 5, 17, 40}) {
      for (const std::int64_t k : {0, 1, 15, 16, 35, 70}) {
        for (const bool transpose : {false, true}) {
          const Gemm shape{.m = m,
                           .n = n,
                           .k = k,
                           .transpose_a = false,
                           .transpose_b = transpose,
                           .accumulate = (m + n) % 2 == 0};
          check<float>(shape, ++seed);
          check<double>(shape, ++seed);
          Gemm other = shape;
          other.transpose_a = true;
          check<double>(other, ++seed);
        }
      }
    }
  }
}

TEST_CASE("epilogues, in one slab and in several") {
  std::uint64_t seed = 32;
  for (const Epilogue epilogue :
       {Epilogue::Bias, Epilogue::BiasGelu, Epilogue::BiasResidual, Epilogue::GeluGrad}) {
    for (const std::int64_t m : {1, 8, 31, 450}) {
      for (const bool transpose : {false, true}) {
        const Gemm shape{.m = m, .n = 701, .k = 19, .transpose_b = transpose, .epilogue = epilogue};
        check<float>(shape, ++seed);
        check<double>(shape, ++seed);
      }
      check<double>({.m = m, .n = 23, .k = 0, .transpose_b = true, .epilogue = epilogue}, ++seed);
      check<double>({.m = m, .n = 23, .k = 5, .transpose_a = true, .epilogue = epilogue}, ++seed);
    }
  }
}

TEST_CASE("bias gradients ride with weight gradients, added or written") {
  std::uint64_t seed = 33;
  for (const std::int64_t m : {1, 8, 31}) {
    for (const std::int64_t k : {0, 1, 6, 129}) {
      for (const bool accumulate : {false, true}) {
        const Gemm shape{.m = m,
                         .n = 23,
                         .k = k,
                         .transpose_a = true,
                         .epilogue = Epilogue::BiasGrad,
                         .accumulate = accumulate};
        check<float>(shape, ++seed);
        check<double>(shape, ++seed);
      }
    }
  }
}

TEST_CASE("a product without rows does nothing, and wrong shapes are refused") {
  gemm(queue_of<float>(), {.m = 0, .n = 4, .k = 4}, {});
  std::vector<float> x(16, 1), y(16, 1);
  const GemmOperands operands{.a = x.data(), .b = x.data(), .bias = x.data(), .c = y.data()};
  const auto run = [&](const Gemm& shape) { gemm(queue_of<float>(), shape, operands); };
  CHECK_THROWS_AS(run({.m = 4, .n = 4, .k = -1}), Error);
  CHECK_THROWS_AS(run({.m = 4, .n = std::int64_t{1} << 31, .k = 4}), Error);
  CHECK_THROWS_AS(run({.m = 4, .n = 4, .k = 4, .epilogue = Epilogue::BiasResidual}), Error);
  CHECK_THROWS_AS(run({.m = 4, .n = 4, .k = 4, .epilogue = Epilogue::Bias, .accumulate = true}),
                  Error);
  CHECK_THROWS_AS(
      run({.m = 4, .n = 4, .k = 4, .transpose_a = true, .epilogue = Epilogue::BiasGrad}), Error);
  CHECK_THROWS_AS(gemm(queue_of<float>(), {.m = 4, .n = 4, .k = 4},
                       {.a = x.data(), .b = y.data(), .c = x.data()}),
                  Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
