#include "kernels/layer_norm.h"

#include "kernels/residual_mix.h"
#include "tests/kernels/cuda/dense_support.h"

namespace imhotep::kernels::test {
namespace {

struct Rows {
  std::int64_t rows, hidden;
};
// Odd rows, real ones, and rows that take several accesses a thread.
constexpr Rows kRows[] = {{1, 9},    {5, 33},   {7, 768},  {300, 1024}, {130, 2048},
                          {9, 4096}, {3, 4104}, {3, 8200}, {2, 5001}};

std::vector<float> shifted_values(std::int64_t count, std::uint64_t seed, Dtype dtype) {
  auto values = random_values(count, seed, dtype);
  for (float& x : values) x = from_bf16(to_bf16(1.5F + x));
  return values;
}

struct Inputs {
  std::vector<float> x, gain, bias, dy, dx, dgain, dbias, mean, rstd;
};

Inputs inputs_of(Rows s, Dtype dtype) {
  const std::int64_t count = s.rows * s.hidden;
  Inputs in{.x = shifted_values(count, 1, dtype),
            .gain = random_values(s.hidden, 2, dtype),
            .bias = random_values(s.hidden, 3, dtype),
            .dy = random_values(count, 4, dtype),
            .dx = random_values(count, 5, dtype),
            .dgain = random_values(s.hidden, 6, dtype),
            .dbias = random_values(s.hidden, 7, dtype)};
  in.mean.resize(static_cast<std::size_t>(s.rows));
  in.rstd = in.mean;
  std::vector<float> y(in.x.size());
  layer_norm(
      kCpu, {s.rows, s.hidden},
      {in.x.data(), in.gain.data(), in.bias.data(), y.data(), in.mean.data(), in.rstd.data()});
  return in;
}

TEST_CASE("layer_norm on a GPU agrees with the CPU") {
  on_each_type([](const DeviceQueue& queue) {
    for (const Rows s : kRows) {
      CAPTURE(s.hidden);
      const Inputs in = inputs_of(s, queue.dtype());
      std::vector<float> y(in.x.size()), mean(in.mean), rstd(in.rstd);
      layer_norm(kCpu, {s.rows, s.hidden},
                 {in.x.data(), in.gain.data(), in.bias.data(), y.data(), mean.data(), rstd.data()});
      const auto x = queue.upload(in.x), gain = queue.upload(in.gain), bias = queue.upload(in.bias);
      const auto out = queue.poisoned(s.rows * s.hidden),
                 means = queue.poisoned(s.rows, Dtype::F32),
                 rstds = queue.poisoned(s.rows, Dtype::F32);
      layer_norm(queue, {s.rows, s.hidden},
                 {x.data(), gain.data(), bias.data(), out.data(), means.data(), rstds.data()});
      check_close(queue.download(out), y, tolerance(queue.dtype()));
      check_close(queue.download(means, Dtype::F32), mean, tolerance(Dtype::F32));
      check_close(queue.download(rstds, Dtype::F32), rstd, tolerance(Dtype::F32));
    }
  });
}

void check_grad(const DeviceQueue& queue, Rows s, bool accumulate) {
  CAPTURE(s.hidden);
  CAPTURE(accumulate);
  const Dtype dtype = queue.dtype();
  const Inputs in = inputs_of(s, dtype);
  Inputs expected = in;
  const LayerNormGrad shape{s.rows, s.hidden, accumulate};
  layer_norm_grad(kCpu, shape,
                  {in.dy.data(), in.x.data(), in.gain.data(), in.mean.data(), in.rstd.data(),
                   expected.dx.data(), expected.dgain.data(), expected.dbias.data()});
  const auto dy = queue.upload(in.dy), x = queue.upload(in.x), gain = queue.upload(in.gain),
             mean = queue.upload(in.mean, Dtype::F32), rstd = queue.upload(in.rstd, Dtype::F32);
  const auto run = [&](const DeviceMemory& dx, const DeviceMemory& dgain,
                       const DeviceMemory& dbias) {
    layer_norm_grad(queue, shape,
                    {dy.data(), x.data(), gain.data(), mean.data(), rstd.data(), dx.data(),
                     dgain.data(), dbias.data()});
  };
  const auto dx = queue.upload(in.dx), again = queue.upload(in.dx);
  const auto dgain = queue.upload(in.dgain), dgain_again = queue.upload(in.dgain);
  const auto dbias = queue.upload(in.dbias), dbias_again = queue.upload(in.dbias);
  run(dx, dgain, dbias);
  run(again, dgain_again, dbias_again);
  check_close(repeated(queue, dx, again, dtype), expected.dx, chained_tolerance(dtype));
  check_close(repeated(queue, dgain, dgain_again, dtype), expected.dgain, chained_tolerance(dtype));
  check_close(repeated(queue, dbias, dbias_again, dtype), expected.dbias, chained_tolerance(dtype));
}

TEST_CASE("layer_norm_grad on a GPU agrees with the CPU and repeats its bits") {
  on_each_type([](const DeviceQueue& queue) {
    for (const Rows s : kRows) {
      check_grad(queue, s, true);
      check_grad(queue, s, false);
    }
    check_grad(queue, {1500, 1024}, true);
  });
}

TEST_CASE("layer_norm of no rows leaves the gradients of its weights") {
  on_each_type([](const DeviceQueue& queue) {
    const auto dgain = queue.upload({1, 2, 3}), dbias = queue.upload({4, 5, 6});
    layer_norm(queue, {0, 3}, {});
    layer_norm_grad(queue, {0, 3}, {.dgain = dgain.data(), .dbias = dbias.data()});
    CHECK(queue.download(dgain) == std::vector<float>{1, 2, 3});
    CHECK(queue.download(dbias) == std::vector<float>{4, 5, 6});
  });
}

TEST_CASE("residual_mix and its gradient on a GPU agree with the CPU") {
  on_each_type([](const DeviceQueue& queue) {
    const Dtype dtype = queue.dtype();
    for (const Rows s : {Rows{1, 1}, Rows{5, 33}, Rows{300, 1024}, Rows{3, 8200}}) {
      CAPTURE(s.hidden);
      const std::int64_t count = s.rows * s.hidden;
      const auto x = random_values(count, 1, dtype), moe = random_values(count, 2, dtype),
                 mlp = random_values(count, 3, dtype),
                 logits = random_values(2 * s.rows, 4, Dtype::F32, 3);
      std::vector<float> y(x.size()), d_moe(x.size()), d_mlp(x.size()), d_logits(logits.size());
      residual_mix(kCpu, {s.rows, s.hidden},
                   {x.data(), moe.data(), mlp.data(), logits.data(), y.data()});
      residual_mix_grad(kCpu, {s.rows, s.hidden},
                        {x.data(), moe.data(), mlp.data(), logits.data(), d_moe.data(),
                         d_mlp.data(), d_logits.data()});
      const auto of_x = queue.upload(x), of_moe = queue.upload(moe), of_mlp = queue.upload(mlp),
                 by = queue.upload(logits, Dtype::F32);
      const auto out = queue.poisoned(count), d_by = queue.poisoned(2 * s.rows, Dtype::F32);
      residual_mix(queue, {s.rows, s.hidden},
                   {of_x.data(), of_moe.data(), of_mlp.data(), by.data(), out.data()});
      check_close(queue.download(out), y, tolerance(dtype));
      // in place: d_moe over moe, d_mlp over mlp
      residual_mix_grad(queue, {s.rows, s.hidden},
                        {of_x.data(), of_moe.data(), of_mlp.data(), by.data(), of_moe.data(),
                         of_mlp.data(), d_by.data()});
      check_close(queue.download(of_moe), d_moe, tolerance(dtype));
      check_close(queue.download(of_mlp), d_mlp, tolerance(dtype));
      check_close(queue.download(d_by, Dtype::F32), d_logits, chained_tolerance(Dtype::F32));
    }
    residual_mix(queue, {0, 8}, {});
    residual_mix_grad(queue, {0, 8}, {});
  });
}

}  // namespace
}  // namespace imhotep::kernels::test
