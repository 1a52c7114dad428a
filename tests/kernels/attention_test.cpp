#include "kernels/attention.h"

#include "core/base/error.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

template <class T>
struct Context {
  std::vector<T> ctx, lse;
};

template <class T>
Context<T> run(const Attention& s, const std::vector<T>& qkv) {
  Context<T> out{std::vector<T>(s.batch * s.sequence * s.heads * s.head_dim),
                 std::vector<T>(s.batch * s.heads * s.sequence)};
  std::vector<T> scratch(attention_scratch_elements(s));
  attention(queue_of<T>(), s, {qkv.data(), out.ctx.data(), out.lse.data(), scratch.data()});
  return out;
}

template <class T>
std::vector<T> run_grad(const Attention& s, const std::vector<T>& qkv, const std::vector<T>& dctx) {
  const auto forward = run(s, qkv);
  const AttentionGrad shape{s.batch, s.heads, s.sequence, s.head_dim};
  std::vector<T> dqkv(qkv.size(), T(99)), scratch(attention_scratch_elements(shape));
  attention_grad(queue_of<T>(), shape,
                 {qkv.data(), forward.ctx.data(), forward.lse.data(), dctx.data(), dqkv.data(),
                  scratch.data()});
  return dqkv;
}

Context<double> by_definition(const Attention& s, const std::vector<double>& qkv) {
  const std::int64_t dim = s.head_dim, width = s.heads * dim;
  Context<double> out{std::vector<double>(s.batch * s.sequence * width),
                      std::vector<double>(s.batch * s.heads * s.sequence)};
  for (std::int64_t item = 0; item < s.batch * s.heads; ++item) {
    const std::int64_t first = item / s.heads * s.sequence, head = item % s.heads;
    const auto at = [&](std::int64_t row, std::int64_t which) {
      return qkv.data() + ((first + row) * 3 + which) * width + head * dim;
    };
    for (std::int64_t i = 0; i < s.sequence; ++i) {
      std::vector<double> weight(i + 1);
      double sum = 0;
      for (std::int64_t j = 0; j <= i; ++j) {
        double score = 0;
        for (std::int64_t d = 0; d < dim; ++d) score += at(i, 0)[d] * at(j, 1)[d];
        sum += weight[j] = std::exp(score / std::sqrt(static_cast<double>(dim)));
      }
      out.lse[item * s.sequence + i] = std::log(sum);
      for (std::int64_t j = 0; j <= i; ++j) {
        for (std::int64_t d = 0; d < dim; ++d) {
          out.ctx[(first + i) * width + head * dim + d] += weight[j] / sum * at(j, 2)[d];
        }
      }
    }
  }
  return out;
}

std::vector<double> random_qkv(const Attention& s, std::uint64_t seed) {
  return Random(seed).normals<double>(s.batch * s.sequence * 3 * s.heads * s.head_dim);
}

TEST_CASE("attention equals its definition, in one block of queries and in several") {
  for (const Attention& s :
       {Attention{1, 1, 1, 1}, Attention{2, 3, 5, 4}, Attention{1, 2, 48, 8},
        Attention{2, 1, 49, 16}, Attention{1, 2, 131, 5}, Attention{0, 2, 4, 4}}) {
    CAPTURE(s.sequence);
    CAPTURE(s.head_dim);
    const auto qkv = random_qkv(s, 51);
    const auto expected = by_definition(s, qkv);
    const auto got = run(s, qkv);
    CHECK(scaled_error(got.ctx, expected.ctx) < 1e-12);
    CHECK(scaled_error(got.lse, expected.lse) < 1e-12);
    const auto single = run(s, cast<float>(qkv));
    CHECK(scaled_error(single.ctx, expected.ctx) < 5e-6);
    CHECK(scaled_error(single.lse, expected.lse) < 5e-6);
  }
}

TEST_CASE("attention: the gradient agrees with central differences") {
  for (const Attention& s :
       {Attention{1, 1, 1, 2}, Attention{2, 2, 7, 3}, Attention{1, 1, 53, 2}}) {
    CAPTURE(s.sequence);
    auto qkv = random_qkv(s, 52);
    const auto dctx = Random(53).normals<double>(s.batch * s.sequence * s.heads * s.head_dim);
    const auto got = run_grad(s, qkv, dctx);
    const auto numeric = numeric_gradient(qkv, [&] { return dot(dctx, run(s, qkv).ctx); });
    CHECK(scaled_error(got, numeric) < 1e-6);
  }
}

TEST_CASE("attention: the float gradient agrees with the double one") {
  const Attention s{2, 3, 113, 24};
  const auto qkv = random_qkv(s, 54);
  const auto dctx = Random(55).normals<double>(s.batch * s.sequence * s.heads * s.head_dim);
  const auto exact = run_grad(s, qkv, dctx);
  CHECK(scaled_error(run_grad(s, cast<float>(qkv), cast<float>(dctx)), exact) < 1e-5);
}

TEST_CASE("large scores neither overflow nor leak into the past") {
  const Attention s{1, 1, 70, 8};
  auto qkv = cast<float>(random_qkv(s, 56));
  for (float& value : qkv) value *= 60;
  const auto before = run(s, qkv);
  for (const float value : before.ctx) REQUIRE(std::isfinite(value));
  for (std::int64_t i = 69 * 3 * 8; i < 70 * 3 * 8; ++i) qkv[i] = -qkv[i];
  const auto after = run(s, qkv);
  for (std::int64_t i = 0; i < 69 * 8; ++i) CHECK(before.ctx[i] == after.ctx[i]);
}

TEST_CASE("attention without a head dimension is refused") {
  CHECK_THROWS_AS(attention(queue_of<float>(), {1, 1, 1, 0}, {}), Error);
}

}  // namespace
}  // namespace imhotep::kernels::test
