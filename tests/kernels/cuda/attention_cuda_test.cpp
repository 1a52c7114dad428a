#include <algorithm>

#include "kernels/attention.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels {
namespace {

struct Case {
  Attention shape;
  std::vector<float> qkv, dctx;

  Case(Attention s, std::uint64_t seed, Dtype dtype)
      : shape(s),
        qkv(random_values(3 * elements(), seed, dtype)),
        dctx(random_values(elements(), seed + 1, dtype)) {
    INFO("seed ", seed);
  }
  [[nodiscard]] std::int64_t elements() const {
    return shape.batch * shape.sequence * shape.heads * shape.head_dim;
  }
  [[nodiscard]] std::int64_t rows() const { return shape.batch * shape.heads * shape.sequence; }
  [[nodiscard]] AttentionGrad gradient() const {
    return {shape.batch, shape.heads, shape.sequence, shape.head_dim};
  }
};

struct Result {
  std::vector<float> ctx, lse, dqkv;
};

Result on_cpu(const Case& c) {
  Result r{std::vector<float>(c.dctx.size()),
           std::vector<float>(static_cast<std::size_t>(c.rows())),
           std::vector<float>(c.qkv.size())};
  std::vector<float> scratch(static_cast<std::size_t>(attention_scratch_elements(c.gradient())));
  attention({}, c.shape, {c.qkv.data(), r.ctx.data(), r.lse.data(), scratch.data()});
  attention_grad(
      {}, c.gradient(),
      {c.qkv.data(), r.ctx.data(), r.lse.data(), c.dctx.data(), r.dqkv.data(), scratch.data()});
  return r;
}

Result on_gpu(const DeviceQueue& device, const Queue& queue, const Case& c) {
  const DeviceMemory qkv = device.upload(c.qkv), dctx = device.upload(c.dctx);
  const DeviceMemory ctx = device.poisoned(c.elements()),
                     lse = device.poisoned(c.rows(), Dtype::F32),
                     dqkv = device.poisoned(3 * c.elements());
  attention(queue, c.shape, {qkv.data(), ctx.data(), lse.data(), nullptr});
  attention_grad(queue, c.gradient(),
                 {qkv.data(), ctx.data(), lse.data(), dctx.data(), dqkv.data(), nullptr});
  return {device.download(ctx), device.download(lse, Dtype::F32), device.download(dqkv)};
}

// The part of every packed row that holds q (0), k (1) or v (2).
std::vector<float> part_of(const std::vector<float>& packed, const Attention& s,
                           std::int64_t part) {
  const std::int64_t width = s.heads * s.head_dim;
  std::vector<float> out;
  for (std::int64_t row = 0; row < s.batch * s.sequence; ++row) {
    const auto from = packed.begin() + (3 * row + part) * width;
    out.insert(out.end(), from, from + width);
  }
  return out;
}

void check_results(const Result& got, const Result& expected, const Attention& s, Dtype dtype) {
  CAPTURE(s.batch);
  CAPTURE(s.heads);
  CAPTURE(s.sequence);
  CAPTURE(s.head_dim);
  check_close(got.ctx, expected.ctx, chained_tolerance(dtype));
  check_close(got.lse, expected.lse, chained_tolerance(dtype));
  for (const std::int64_t part : {0, 1, 2}) {
    CAPTURE(part);
    check_close(part_of(got.dqkv, s, part), part_of(expected.dqkv, s, part),
                chained_tolerance(dtype));
  }
}

void check_shapes(Dtype dtype, const std::vector<Attention>& shapes) {
  const DeviceQueue device(dtype);
  std::uint64_t seed = 700;
  for (const Attention& shape : shapes) {
    const Case c(shape, seed += 10, dtype);
    check_results(on_gpu(device, device, c), on_cpu(c), shape, dtype);
  }
  CHECK(device.fault().fault == Fault::None);
}

TEST_CASE("attention on a GPU in fp32 equals the CPU's, gradient included") {
  check_shapes(Dtype::F32, {{1, 1, 1, 1},
                            {2, 3, 33, 20},
                            {1, 2, 130, 64},
                            {2, 1, 70, 37},
                            {1, 1, 65, 256},
                            {3, 2, 32, 128}});
}

TEST_CASE("attention on a GPU in bf16 equals the CPU's, gradient included") {
  check_shapes(Dtype::Bf16, {{2, 4, 256, 64},
                             {1, 2, 1024, 64},
                             {2, 2, 200, 128},
                             {1, 3, 77, 64},
                             {3, 1, 64, 96},
                             {4, 2, 16, 32},
                             {2, 3, 45, 20}});  // no cuDNN kernel reads such rows
}

TEST_CASE("attention in a small workspace goes by slices of sequences and of heads") {
  const DeviceQueue device(Dtype::Bf16);
  const Case c({3, 4, 256, 64}, 800, Dtype::Bf16);
  const Result expected = on_cpu(c);
  for (const std::int64_t bytes : {600'000, 240'000}) {
    CAPTURE(bytes);
    Queue small = device;
    small.workspace_bytes = bytes;
    check_results(on_gpu(device, small, c), expected, c.shape, Dtype::Bf16);
  }
}

TEST_CASE("attention gives the same bits twice, but for the gradient of q from cuDNN") {
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    const DeviceQueue device(dtype);
    const Case c({2, 3, 300, 64}, 810, dtype);
    const Result first = on_gpu(device, device, c), second = on_gpu(device, device, c);
    CHECK(first.ctx == second.ctx);
    CHECK(first.lse == second.lse);
    const auto part = [&](const Result& r, std::int64_t which) {
      return part_of(r.dqkv, c.shape, which);
    };
    if (dtype == Dtype::F32) CHECK(first.dqkv == second.dqkv);
    CHECK(part(first, 1) == part(second, 1));
    CHECK(part(first, 2) == part(second, 2));
    check_close(part(first, 0), part(second, 0), tolerance(dtype));
  }
}

TEST_CASE("large scores neither overflow nor leak into the past on a GPU") {
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    const DeviceQueue device(dtype);
    Case c({1, 1, 128, 64}, 820, dtype);
    for (float& value : c.qkv) value *= 64;
    const Result before = on_gpu(device, device, c);
    CHECK(std::all_of(before.ctx.begin(), before.ctx.end(),
                      [](float x) { return std::isfinite(x); }));
    for (std::size_t i = 127 * 3 * 64; i < c.qkv.size(); ++i) c.qkv[i] = -c.qkv[i];
    const Result after = on_gpu(device, device, c);
    CHECK(std::equal(before.ctx.begin(), before.ctx.begin() + 127 * 64, after.ctx.begin()));
  }
}

TEST_CASE("attention of no sequences does nothing on a GPU") {
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    const DeviceQueue device(dtype);
    CHECK_NOTHROW(attention(device, {0, 2, 8, 16}, {}));
    CHECK_NOTHROW(attention_grad(device, {2, 2, 0, 16}, {}));
  }
}

}  // namespace
}  // namespace imhotep::kernels
