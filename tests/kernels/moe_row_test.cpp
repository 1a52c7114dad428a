// Combine and residual mix: closed forms and gradients by central differences.

#include "kernels/combine.h"
#include "kernels/residual_mix.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {
namespace {

// Positions of [tokens, k, copies] that use every row of [0, rows) once; some routes are dropped.
struct Placement {
  Table position;
  std::int64_t rows = 0;
};

Placement place(Random& random, const Combine& shape) {
  Placement out;
  for (std::int64_t r = 0; r < shape.tokens * shape.k; ++r) {
    const bool dropped = random.between(0, 3) == 0;
    for (std::int64_t c = 0; c < shape.copies; ++c) {
      out.position.push_back(static_cast<std::int32_t>(dropped ? -1 : out.rows++));
    }
  }
  return out;
}

template <class T>
std::vector<T> forward(const Combine& shape, const Placement& at, const std::vector<T>& rows,
                       const std::vector<T>& weight) {
  std::vector<T> y(shape.tokens * shape.hidden, T(-9));
  combine(queue_of<T>(), shape,
          {rows.data(), nullptr, at.position.data(), weight.data(), y.data()});
  return y;
}

template <class T>
struct Gradients {
  std::vector<T> d_rows, d_weight;
};

template <class T>
Gradients<T> backward(const Combine& s, const Placement& at, const std::vector<T>& rows,
                      const std::vector<T>& weight, const std::vector<T>& dy) {
  Gradients<T> out{std::vector<T>(rows.size(), T(-9)), std::vector<T>(weight.size(), T(-9))};
  combine_grad(queue_of<T>(), {s.tokens, s.k, s.copies, s.hidden},
               {.dy = dy.data(),
                .rows = rows.data(),
                .position = at.position.data(),
                .weight = weight.data(),
                .d_rows = out.d_rows.data(),
                .d_weight = out.d_weight.data()});
  return out;
}

const std::vector<Combine> kShapes{{1, 1, 1, 1},  {5, 1, 1, 16}, {7, 2, 1, 33},
                                   {4, 3, 2, 17}, {0, 2, 1, 8},  {9, 1, 3, 5}};

TEST_CASE("the gradient of combine agrees with central differences") {
  for (const Combine& shape : kShapes) {
    CAPTURE(shape.tokens);
    CAPTURE(shape.hidden);
    Random random(static_cast<std::uint64_t>(shape.hidden));
    const Placement at = place(random, shape);
    auto rows = random.normals<double>(at.rows * shape.hidden);
    auto weight = random.normals<double>(shape.tokens * shape.k);
    const auto dy = random.normals<double>(shape.tokens * shape.hidden);
    const auto loss = [&] { return dot(forward(shape, at, rows, weight), dy); };
    const auto exact = backward(shape, at, rows, weight, dy);
    CHECK(scaled_error(exact.d_rows, numeric_gradient(rows, loss)) < 1e-6);
    CHECK(scaled_error(exact.d_weight, numeric_gradient(weight, loss)) < 1e-6);

    const auto rows32 = cast<float>(rows);
    const auto weight32 = cast<float>(weight);
    CHECK(scaled_error(forward(shape, at, rows32, weight32), forward(shape, at, rows, weight)) <
          1e-6);
    const auto single = backward(shape, at, rows32, weight32, cast<float>(dy));
    CHECK(scaled_error(single.d_rows, exact.d_rows) < 1e-6);
    CHECK(scaled_error(single.d_weight, exact.d_weight) < 1e-6);
  }
}

TEST_CASE("a token without a row gets zero, and its route no gradient") {
  const Combine shape{2, 1, 1, 3};
  const Placement at{{-1, 0}, 1};
  const std::vector<float> rows{1, 2, 3}, weight{0, 0.5F}, dy{1, 1, 1, 2, 0, 1};
  CHECK(forward(shape, at, rows, weight) == std::vector<float>{0, 0, 0, 0.5F, 1, 1.5F});
  const auto gradient = backward(shape, at, rows, weight, dy);
  CHECK(gradient.d_weight == std::vector<float>{0, 5});
  CHECK(gradient.d_rows == std::vector<float>{1, 0, 0.5F});
}

TEST_CASE("the gradient of combine writes its window only") {
  const Combine s{6, 2, 2, 7};
  Random random(8);
  const Placement at = place(random, s);
  const auto rows = random.normals<float>(at.rows * s.hidden);
  const auto weight = random.normals<float>(s.tokens * s.k);
  const auto dy = random.normals<float>(s.tokens * s.hidden);
  const auto whole = backward(s, at, rows, weight, dy);
  const Table window{4, static_cast<std::int32_t>(at.rows - 3)};
  const std::int64_t held = window[1] - window[0];
  REQUIRE(held > 2);
  std::vector<float> d_rows((held + 2) * s.hidden, -9.0F), d_weight(weight.size());
  combine_grad(queue_of<float>(), {s.tokens, s.k, s.copies, s.hidden},
               {.dy = dy.data(),
                .rows = rows.data(),
                .position = at.position.data(),
                .weight = weight.data(),
                .d_range = window.data(),
                .d_rows = d_rows.data() + s.hidden,
                .d_weight = d_weight.data()});
  std::vector<float> expected(s.hidden, -9.0F);
  const auto first = whole.d_rows.begin() + window[0] * s.hidden;
  expected.insert(expected.end(), first, first + held * s.hidden);
  expected.insert(expected.end(), s.hidden, -9.0F);
  CHECK(d_rows == expected);
  CHECK(d_weight == whole.d_weight);

  // Rows in windows: the parts of d_weight add up.
  std::vector<float> sum(weight.size());
  for (const Table& part : {Table{0, 4}, window, Table{window[1], window[1] + 3}}) {
    combine_grad(queue_of<float>(), {s.tokens, s.k, s.copies, s.hidden},
                 {.dy = dy.data(),
                  .rows = rows.data() + part[0] * s.hidden,
                  .range = part.data(),
                  .position = at.position.data(),
                  .weight = weight.data(),
                  .d_range = window.data(),
                  .d_rows = d_rows.data() + s.hidden,
                  .d_weight = d_weight.data()});
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += d_weight[i];
  }
  CHECK(scaled_error(sum, whole.d_weight) < 1e-6);
}

// ---- residual mix

template <class T>
struct Mix {
  std::int64_t rows = 0, hidden = 0;
  std::vector<T> x, moe, mlp, logits;

  Mix(std::int64_t r, std::int64_t h, Random& random)
      : rows(r),
        hidden(h),
        x(random.normals<T>(r * h)),
        moe(random.normals<T>(r * h)),
        mlp(random.normals<T>(r * h)),
        logits(random.normals<T>(r * 2)) {}

  [[nodiscard]] std::vector<T> run() const {
    std::vector<T> y(x.size(), T(-9));
    residual_mix(queue_of<T>(), {rows, hidden},
                 {x.data(), moe.data(), mlp.data(), logits.data(), y.data()});
    return y;
  }
};

TEST_CASE("coefficient 0 belongs to the experts, coefficient 1 to the dense branch") {
  Random random(1);
  Mix<double> mix(2, 3, random);
  mix.logits = {std::log(3.0), 0.0, -900.0, 900.0};
  const auto y = mix.run();
  for (int i = 0; i < 3; ++i) {
    CHECK(y[i] == doctest::Approx(mix.x[i] + 0.75 * mix.moe[i] + 0.25 * mix.mlp[i]));
    CHECK(y[3 + i] == mix.x[3 + i] + mix.mlp[3 + i]);
  }
  std::vector<double> in_place = mix.x;
  residual_mix(
      queue_of<double>(), {2, 3},
      {in_place.data(), mix.moe.data(), mix.mlp.data(), mix.logits.data(), in_place.data()});
  CHECK(in_place == y);
}

TEST_CASE("the gradient of the residual mix agrees with central differences") {
  using Size = std::pair<std::int64_t, std::int64_t>;
  for (const Size& size : {Size{1, 1}, Size{3, 16}, Size{5, 37}, Size{0, 4}}) {
    const std::int64_t rows = size.first, hidden = size.second;
    CAPTURE(hidden);
    Random random(static_cast<std::uint64_t>(hidden));
    Mix<double> mix(rows, hidden, random);
    const auto dy = random.normals<double>(rows * hidden);
    const auto loss = [&] { return dot(mix.run(), dy); };
    std::vector<double> d_moe = mix.moe, d_mlp = mix.mlp, d_logits(rows * 2, -9);  // in place
    residual_mix_grad(queue_of<double>(), {rows, hidden},
                      {.dy = dy.data(),
                       .moe = d_moe.data(),
                       .mlp = d_mlp.data(),
                       .logits = mix.logits.data(),
                       .d_moe = d_moe.data(),
                       .d_mlp = d_mlp.data(),
                       .d_logits = d_logits.data()});
    CHECK(scaled_error(d_moe, numeric_gradient(mix.moe, loss)) < 1e-6);
    CHECK(scaled_error(d_mlp, numeric_gradient(mix.mlp, loss)) < 1e-6);
    CHECK(scaled_error(d_logits, numeric_gradient(mix.logits, loss)) < 1e-6);
    CHECK(scaled_error(numeric_gradient(mix.x, loss), dy) < 1e-6);

    Random again(static_cast<std::uint64_t>(hidden));
    const Mix<float> single(rows, hidden, again);
    CHECK(scaled_error(single.run(), mix.run()) < 1e-6);
  }
}

}  // namespace
}  // namespace imhotep::kernels::test
