// Products of few rows on the device against the CPU's: gemm's fast way for them, norm_gemm and
// norm_gate; every row count at which the kernels change their shape, odd sizes and real ones.

#include "kernels/gemm.h"
#include "kernels/norm_gate.h"
#include "kernels/norm_gemm.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels {
namespace {

using Values = std::vector<float>;

const Queue kHost{.device = Device::Cpu, .dtype = Dtype::F32};
constexpr Dtype kData = Dtype::Bf16;

struct Sizes {
  std::int64_t rows = 0, n = 0, k = 0;
};
constexpr Sizes kSizes[] = {{0, 24, 16},   {1, 50, 8},      {1, 1024, 1024}, {2, 3072, 1024},
                            {7, 33, 264},  {8, 1024, 4096}, {9, 200, 40},    {16, 768, 2048},
                            {17, 96, 776}, {32, 1024, 256}, {33, 70, 4096},  {64, 1024, 1024},
                            {65, 128, 72}, {128, 300, 512}, {3, 4999, 96},   {8, 8192, 64}};

Values data(std::int64_t count, std::uint64_t seed, float scale = 1) {
  return random_values(count, seed, kData, scale);
}
float per_root(std::int64_t k) { return 1 / std::sqrt(static_cast<float>(k)); }

TEST_CASE("gemm of few bf16 rows gives what the CPU gives, with every epilogue") {
  const DeviceQueue queue(kData);
  for (const Sizes& s : kSizes) {
    const Values a = data(s.rows * s.k, 1), b = data(s.n * s.k, 2, per_root(s.k)),
                 bias = data(s.n, 3), addend = data(s.rows * s.n, 4);
    const DeviceMemory da = queue.upload(a), db = queue.upload(b), dbias = queue.upload(bias),
                       dadd = queue.upload(addend);
    for (const Epilogue epilogue :
         {Epilogue::None, Epilogue::Bias, Epilogue::BiasGelu, Epilogue::BiasResidual}) {
      CAPTURE(s.rows);
      CAPTURE(s.n);
      CAPTURE(s.k);
      CAPTURE(static_cast<int>(epilogue));
      const Gemm shape{.m = s.rows, .n = s.n, .k = s.k, .transpose_b = true, .epilogue = epilogue};
      Values c(static_cast<std::size_t>(s.rows * s.n)), pre(c.size());
      gemm(kHost, shape,
           {.a = a.data(),
            .b = b.data(),
            .bias = bias.data(),
            .addend = addend.data(),
            .pre = pre.data(),
            .c = c.data()});
      const DeviceMemory dc = queue.poisoned(s.rows * s.n), dpre = queue.poisoned(s.rows * s.n),
                         again = queue.poisoned(s.rows * s.n);
      const GemmOperands operands{.a = da.data(),
                                  .b = db.data(),
                                  .bias = dbias.data(),
                                  .addend = dadd.data(),
                                  .pre = dpre.data(),
                                  .c = dc.data()};
      gemm(queue, shape, operands);
      GemmOperands second = operands;
      second.c = again.data();
      second.pre = nullptr;
      gemm(queue, shape, second);
      check_close(queue.download(dc), c, tolerance(kData));
      CHECK(queue.download_raw<std::uint16_t>(dc) == queue.download_raw<std::uint16_t>(again));
      if (epilogue == Epilogue::BiasGelu) check_close(queue.download(dpre), pre, tolerance(kData));
    }
  }
}

TEST_CASE("norm_gemm gives what a norm and a product on the CPU give") {
  const DeviceQueue queue(kData);
  for (const Sizes& s : kSizes) {
    Values x = data(s.rows * s.k, 5);
    for (float& value : x) value = from_bf16(to_bf16(value + 3));  // a mean worth removing
    const Values gain = data(s.k, 6), shift = data(s.k, 7), b = data(s.n * s.k, 8, per_root(s.k)),
                 bias = data(s.n, 9);
    const DeviceMemory dx = queue.upload(x), dgain = queue.upload(gain),
                       dshift = queue.upload(shift), db = queue.upload(b),
                       dbias = queue.upload(bias);
    for (const Epilogue epilogue : {Epilogue::None, Epilogue::Bias, Epilogue::BiasGelu}) {
      CAPTURE(s.rows);
      CAPTURE(s.n);
      CAPTURE(s.k);
      CAPTURE(static_cast<int>(epilogue));
      const NormGemm shape{.rows = s.rows, .n = s.n, .k = s.k, .epilogue = epilogue};
      Values c(static_cast<std::size_t>(s.rows * s.n));
      norm_gemm(kHost, shape,
                {.x = x.data(),
                 .gain = gain.data(),
                 .shift = shift.data(),
                 .b = b.data(),
                 .bias = bias.data(),
                 .c = c.data()});
      const DeviceMemory dc = queue.poisoned(s.rows * s.n), again = queue.poisoned(s.rows * s.n);
      NormGemmOperands operands{.x = dx.data(),
                                .gain = dgain.data(),
                                .shift = dshift.data(),
                                .b = db.data(),
                                .bias = dbias.data(),
                                .c = dc.data()};
      norm_gemm(queue, shape, operands);
      operands.c = again.data();
      norm_gemm(queue, shape, operands);
      check_close(queue.download(dc), c, chained_tolerance(kData));
      CHECK(queue.download_raw<std::uint16_t>(dc) == queue.download_raw<std::uint16_t>(again));
    }
  }
}

struct GateSizes {
  std::int64_t rows = 0, hidden = 0, experts = 0, mlp = 0;
};

void check_gate(const DeviceQueue& queue, const GateSizes& s) {
  CAPTURE(s.rows);
  CAPTURE(s.hidden);
  CAPTURE(s.experts);
  CAPTURE(s.mlp);
  const NormGate shape{.rows = s.rows, .hidden = s.hidden, .experts = s.experts, .mlp = s.mlp};
  const Values x = data(s.rows * s.hidden, 11), gain = data(s.hidden, 12),
               shift = data(s.hidden, 13), up = data(s.mlp * s.hidden, 14, per_root(s.hidden)),
               up_bias = data(s.mlp, 15);
  const Values gate = random_values(s.experts * s.hidden, 16, Dtype::F32, per_root(s.hidden)),
               coefficient = random_values(2 * s.hidden, 17, Dtype::F32, per_root(s.hidden)),
               coefficient_bias = random_values(2, 18, Dtype::F32),
               noise = random_values(s.rows * s.experts, 19, Dtype::F32);
  Values n(x.size()), logits(static_cast<std::size_t>(s.rows * s.experts)),
      coefficients(static_cast<std::size_t>(2 * s.rows)),
      hidden(static_cast<std::size_t>(s.rows * s.mlp));
  const bool residual = s.mlp > 0;
  norm_gate(kHost, shape,
            {.x = x.data(),
             .gain = gain.data(),
             .shift = shift.data(),
             .gate = gate.data(),
             .coefficient = residual ? coefficient.data() : nullptr,
             .coefficient_bias = coefficient_bias.data(),
             .up = residual ? up.data() : nullptr,
             .up_bias = up_bias.data(),
             .noise = residual ? noise.data() : nullptr,
             .n = n.data(),
             .logits = logits.data(),
             .coefficients = coefficients.data(),
             .mlp_hidden = hidden.data()});
  const DeviceMemory dx = queue.upload(x), dgain = queue.upload(gain), dshift = queue.upload(shift),
                     dup = queue.upload(up), dup_bias = queue.upload(up_bias),
                     dgate = queue.upload(gate, Dtype::F32),
                     dcoefficient = queue.upload(coefficient, Dtype::F32),
                     dbias = queue.upload(coefficient_bias, Dtype::F32),
                     dnoise = queue.upload(noise, Dtype::F32);
  const DeviceMemory dn = queue.poisoned(s.rows * s.hidden),
                     dhidden = queue.poisoned(s.rows * s.mlp),
                     dlogits = queue.poisoned(s.rows * s.experts, Dtype::F32),
                     dmix = queue.poisoned(2 * s.rows, Dtype::F32);
  const NormGateOperands operands{.x = dx.data(),
                                  .gain = dgain.data(),
                                  .shift = dshift.data(),
                                  .gate = dgate.data(),
                                  .coefficient = residual ? dcoefficient.data() : nullptr,
                                  .coefficient_bias = dbias.data(),
                                  .up = residual ? dup.data() : nullptr,
                                  .up_bias = dup_bias.data(),
                                  .noise = residual ? dnoise.data() : nullptr,
                                  .n = dn.data(),
                                  .logits = dlogits.data(),
                                  .coefficients = dmix.data(),
                                  .mlp_hidden = dhidden.data()};
  norm_gate(queue, shape, operands);
  check_close(queue.download(dn), n, tolerance(kData));
  // Made from n as it is stored: rounded on its way.
  check_close(queue.download(dlogits, Dtype::F32), logits, chained_tolerance(kData));
  const Values first = queue.download(dlogits, Dtype::F32);
  if (residual) {
    check_close(queue.download(dmix, Dtype::F32), coefficients, chained_tolerance(kData));
    check_close(queue.download(dhidden), hidden, chained_tolerance(kData));
  }
  norm_gate(queue, shape, operands);
  CHECK(queue.download(dlogits, Dtype::F32) == first);
}

TEST_CASE("norm_gate gives what a norm and its products on the CPU give") {
  const DeviceQueue queue(kData);
  for (const std::int64_t rows : {1, 2, 8, 9, 16, 17, 64, 128}) {
    for (const std::int64_t mlp : {0, 1}) {
      check_gate(queue, {.rows = rows, .hidden = 72, .experts = 5, .mlp = mlp * 100});
      check_gate(queue, {.rows = rows, .hidden = 256, .experts = 64, .mlp = mlp * 1024});
    }
  }
  check_gate(queue, {.rows = 3, .hidden = 1024, .experts = 32, .mlp = 4096});
  check_gate(queue, {.rows = 12, .hidden = 2048, .experts = 128, .mlp = 2048});
  check_gate(queue, {.rows = 8, .hidden = 4096, .experts = 8, .mlp = 512});
  check_gate(queue, {.rows = 9, .hidden = 4096, .experts = 8, .mlp = 512});
}

}  // namespace
}  // namespace imhotep::kernels
