#include "kernels/update.h"

#include "tests/kernels/cuda/dense_support.h"

namespace imhotep::kernels::test {
namespace {

double* value(const DeviceMemory& memory) { return static_cast<double*>(memory.data()); }

TEST_CASE("sum_squares on a GPU agrees with the CPU and repeats its bits") {
  on_each_type([](const DeviceQueue& queue) {
    for (const std::int64_t elements : {1, 7, 8, 1000, 100001, 3000000}) {
      CAPTURE(elements);
      const auto x = random_values(elements, 1, queue.dtype());
      double expected = 2;
      sum_squares(kCpu, {elements, 0.5}, {x.data(), &expected});
      const auto in = queue.upload(x);
      const auto first = queue.upload_raw(std::vector<double>{2}),
                 second = queue.upload_raw(std::vector<double>{2});
      sum_squares(queue, {elements, 0.5}, {in.data(), value(first)});
      sum_squares(queue, {elements, 0.5}, {in.data(), value(second)});
      const double total = queue.download_raw<double>(first)[0];
      CHECK(total == doctest::Approx(expected).epsilon(1e-7));
      CHECK(total == queue.download_raw<double>(second)[0]);
    }
    sum_squares(queue, {0, 1}, {});
  });
}

TEST_CASE("clip_scale on a GPU is the CPU's") {
  on_each_type([](const DeviceQueue& queue) {
    for (const double total : {0.0, 0.25, 1.0, 9.0, 1e300}) {
      for (const float limit : {0.0F, 1.0F, 2.5F}) {
        double norm = 0, factor = 0;
        clip_scale(kCpu, {limit}, {&total, &norm, &factor});
        const auto in = queue.upload_raw(std::vector<double>{total, -1, -1});
        clip_scale(queue, {limit}, {value(in), value(in) + 1, value(in) + 2});
        const auto out = queue.download_raw<double>(in);
        CHECK(out[1] == doctest::Approx(norm).epsilon(1e-15));
        CHECK(out[2] == doctest::Approx(factor).epsilon(1e-15));
      }
    }
    for (const float limit : {0.0F, 1.0F}) {
      const auto in = queue.upload_raw(std::vector<double>{NAN, -1, -1});
      clip_scale(queue, {limit}, {value(in), value(in) + 1, value(in) + 2});
      CHECK(queue.download_raw<double>(in)[2] == 0);
    }
  });
}

struct State {
  std::vector<float> grad, weight, m, v;
};

State state_of(std::int64_t elements, Dtype dtype) {
  State s{.grad = random_values(elements, 1, dtype),
          .weight = random_values(elements, 2, Dtype::F32),
          .m = random_values(elements, 3, Dtype::F32, 0.1F),
          .v = random_values(elements, 4, Dtype::F32, 0.1F)};
  for (float& x : s.v) x *= x;
  return s;
}

constexpr AdamWHyper kHyper{.lr = 0.01, .weight_decay = 0.1, .step = 3};

void check_adamw(const DeviceQueue& queue, const AdamW& shape, bool master) {
  CAPTURE(shape.elements);
  CAPTURE(shape.decayed);
  CAPTURE(master);
  const Dtype dtype = queue.dtype();
  State in = state_of(shape.elements, dtype);
  if (!master && dtype == Dtype::Bf16) in.weight = random_values(shape.elements, 2, dtype);
  State expected = in;
  const double half = 0.5;
  adamw(kCpu, shape,
        {.grad = in.grad.data(),
         .factor = &half,
         .weight = expected.weight.data(),
         .m = expected.m.data(),
         .v = expected.v.data(),
         .hyper = kHyper});
  const auto grad = queue.upload(in.grad), weight = queue.upload(in.weight),
             m = queue.upload(in.m, Dtype::F32), v = queue.upload(in.v, Dtype::F32),
             exact = queue.upload(in.weight, Dtype::F32);
  const auto factor = queue.upload_raw(std::vector<double>{half, NAN});
  AdamWOperands operands{.grad = grad.data(),
                         .factor = value(factor),
                         .weight = weight.data(),
                         .m = m.data(),
                         .v = v.data(),
                         .master = master ? exact.data() : nullptr,
                         .hyper = kHyper};
  adamw(queue, shape, operands);
  operands.factor = value(factor) + 1;
  adamw(queue, shape, operands);  // not a number: leaves all as it is
  check_close(queue.download(m, Dtype::F32), expected.m, tolerance(Dtype::F32));
  check_close(queue.download(v, Dtype::F32), expected.v, tolerance(Dtype::F32));
  const auto updated = queue.download(weight);
  if (!master) return check_close(updated, expected.weight, tolerance(dtype));
  const auto wide = queue.download(exact, Dtype::F32);
  check_close(wide, expected.weight, tolerance(Dtype::F32));
  for (std::size_t i = 0; i < wide.size(); ++i) CHECK(updated[i] == from_bf16(to_bf16(wide[i])));
}

TEST_CASE("adamw on a GPU agrees with the CPU, with a master copy and without") {
  on_each_type([](const DeviceQueue& queue) {
    for (const AdamW shape :
         {AdamW{1, 1}, AdamW{7, 3}, AdamW{16, 0}, AdamW{1003, 517}, AdamW{4096, 4096}}) {
      check_adamw(queue, shape, false);
      if (queue.dtype() == Dtype::Bf16) check_adamw(queue, shape, true);
    }
    adamw(queue, {0, 0}, {.hyper = kHyper});
  });
}

TEST_CASE("adamw without a factor takes the gradient as it is") {
  const DeviceQueue queue(Dtype::F32);
  State s = state_of(100, Dtype::F32);
  const auto grad = queue.upload(s.grad), weight = queue.upload(s.weight), m = queue.upload(s.m),
             v = queue.upload(s.v);
  adamw(queue, {100, 50},
        {.grad = grad.data(),
         .weight = weight.data(),
         .m = m.data(),
         .v = v.data(),
         .hyper = kHyper});
  adamw(kCpu, {100, 50},
        {.grad = s.grad.data(),
         .weight = s.weight.data(),
         .m = s.m.data(),
         .v = s.v.data(),
         .hyper = kHyper});
  check_close(queue.download(weight), s.weight, tolerance(Dtype::F32));
}

}  // namespace
}  // namespace imhotep::kernels::test
