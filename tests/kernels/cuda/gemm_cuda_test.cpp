#include "kernels/gemm.h"

#include <string>

#include "tests/kernels/cuda/dense_support.h"

namespace imhotep::kernels::test {
namespace {

struct Values {
  std::vector<float> a, b, bias, addend, pre, c, bias_grad;
};

Values values_of(const Gemm& s, const DeviceQueue& queue) {
  const Dtype of_a = s.wide_a ? Dtype::F32 : queue.dtype(),
              of_b = s.wide_b ? Dtype::F32 : queue.dtype(),
              of_c = s.wide ? Dtype::F32 : queue.dtype();
  const float small = 1 / std::sqrt(static_cast<float>(s.k) + 1);
  return {.a = random_values(s.m * s.k, 1, of_a),
          .b = random_values(s.n * s.k, 2, of_b, small),
          .bias = random_values(s.n, 3, of_b),
          .addend = random_values(s.m * s.n, 4, queue.dtype()),
          .pre = random_values(s.m * s.n, 5, queue.dtype()),
          .c = random_values(s.m * s.n, 6, of_c),
          .bias_grad = random_values(s.m, 7, queue.dtype())};
}

std::string text_of(const Gemm& s) {
  return "m " + std::to_string(s.m) + " n " + std::to_string(s.n) + " k " + std::to_string(s.k) +
         " transposed " + std::to_string(s.transpose_a) + std::to_string(s.transpose_b) +
         " epilogue " + std::to_string(static_cast<int>(s.epilogue)) + " accumulate " +
         std::to_string(s.accumulate);
}

// Runs a product on both devices, twice on the GPU, and compares.
void check_gemm(const DeviceQueue& queue, const Gemm& s, bool keeps_pre = true) {
  const std::string text = text_of(s);
  CAPTURE(text);
  CAPTURE(keeps_pre);
  const Values in = values_of(s, queue);
  const bool reads_pre = s.epilogue == Epilogue::GeluGrad;
  const bool writes_pre = s.epilogue == Epilogue::BiasGelu && keeps_pre;
  Values expected = in;
  gemm(kCpu, s,
       {in.a.data(), in.b.data(), in.bias.data(), in.addend.data(),
        reads_pre || writes_pre ? expected.pre.data() : nullptr, expected.c.data(),
        expected.bias_grad.data()});
  const Dtype data = queue.dtype(), of_c = s.wide ? Dtype::F32 : data;
  const auto a = queue.upload(in.a, s.wide_a ? Dtype::F32 : data),
             b = queue.upload(in.b, s.wide_b ? Dtype::F32 : data),
             bias = queue.upload(in.bias, s.wide_b ? Dtype::F32 : data),
             addend = queue.upload(in.addend), pre = queue.upload(in.pre),
             c = queue.upload(in.c, of_c), again = queue.upload(in.c, of_c),
             sums = queue.upload(in.bias_grad), sums_again = queue.upload(in.bias_grad);
  const GemmOperands operands{.a = a.data(),
                              .b = b.data(),
                              .bias = bias.data(),
                              .addend = addend.data(),
                              .pre = reads_pre || writes_pre ? pre.data() : nullptr,
                              .c = c.data(),
                              .bias_grad = sums.data()};
  gemm(queue, s, operands);
  GemmOperands second = operands;
  second.c = again.data();
  second.bias_grad = sums_again.data();
  gemm(queue, s, second);
  const bool plain = s.epilogue == Epilogue::None || s.epilogue == Epilogue::BiasGrad;
  check_close(repeated(queue, c, again, of_c), expected.c,
              plain && s.k < 4096 ? tolerance(of_c) : chained_tolerance(of_c));
  check_close(repeated(queue, sums, sums_again, data), expected.bias_grad, chained_tolerance(data));
  if (writes_pre) check_close(queue.download(pre), expected.pre, chained_tolerance(data));
}

TEST_CASE("products on a GPU agree with the CPU, transposed or not") {
  on_each_type([](const DeviceQueue& queue) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        for (const bool accumulate : {false, true}) {
          const auto shape = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
            return Gemm{.m = m,
                        .n = n,
                        .k = k,
                        .transpose_a = transpose_a,
                        .transpose_b = transpose_b,
                        .accumulate = accumulate};
          };
          check_gemm(queue, shape(5, 7, 3));
          check_gemm(queue, shape(128, 64, 192));
          check_gemm(queue, shape(300, 776, 264));
        }
      }
    }
  });
}

TEST_CASE("epilogues on a GPU agree with the CPU, fused or not") {
  on_each_type([](const DeviceQueue& queue) {
    for (const Epilogue epilogue :
         {Epilogue::Bias, Epilogue::BiasGelu, Epilogue::BiasResidual, Epilogue::GeluGrad}) {
      for (const bool keeps_pre : {true, false}) {
        if (!keeps_pre && epilogue != Epilogue::BiasGelu) continue;
        const auto shape = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
          return Gemm{.m = m,
                      .n = n,
                      .k = k,
                      .transpose_b = epilogue != Epilogue::GeluGrad,
                      .epilogue = epilogue};
        };
        check_gemm(queue, shape(5, 7, 3), keeps_pre);
        check_gemm(queue, shape(1, 1024, 256), keeps_pre);
        check_gemm(queue, shape(256, 512, 1024), keeps_pre);
        check_gemm(queue, shape(33, 40, 0), keeps_pre);
      }
    }
  });
}

TEST_CASE("bias gradients ride with weight gradients on a GPU, added or written") {
  on_each_type([](const DeviceQueue& queue) {
    for (const bool accumulate : {false, true}) {
      const auto shape = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
        return Gemm{.m = m,
                    .n = n,
                    .k = k,
                    .transpose_a = true,
                    .epilogue = Epilogue::BiasGrad,
                    .accumulate = accumulate};
      };
      check_gemm(queue, shape(5, 7, 3));
      check_gemm(queue, shape(1024, 256, 2048));
      check_gemm(queue, shape(264, 776, 1000));
      check_gemm(queue, shape(40, 24, 0));
    }
  });
}

TEST_CASE("a wide product of data is not rounded") {
  const DeviceQueue queue(Dtype::Bf16);
  check_gemm(queue, {.m = 64, .n = 128, .k = 256, .transpose_b = true, .wide = true});
}

TEST_CASE("the router's products are fp32 mathematics") {
  on_each_type([](const DeviceQueue& queue) {
    struct Size {
      std::int64_t tokens, hidden, experts;
    };
    for (const Size s : {Size{5, 33, 3}, Size{1, 1024, 64}, Size{130, 40, 2}, Size{300, 1024, 64},
                         Size{1000, 264, 130}, Size{4500, 128, 8}, Size{129, 72, 1},
                         Size{4099, 768, 2}, Size{1023, 776, 4}, Size{2050, 264, 8}}) {
      CAPTURE(s.tokens);
      CAPTURE(s.hidden);
      CAPTURE(s.experts);
      const Gemm forward{.m = s.tokens,
                         .n = s.experts,
                         .k = s.hidden,
                         .transpose_b = true,
                         .wide = true,
                         .wide_b = true};
      check_gemm(queue, forward);
      Gemm with_bias = forward;
      with_bias.epilogue = Epilogue::Bias;
      check_gemm(queue, with_bias);
      for (const bool accumulate : {true, false}) {
        check_gemm(queue, {.m = s.experts,
                           .n = s.hidden,
                           .k = s.tokens,
                           .transpose_a = true,
                           .accumulate = accumulate,
                           .wide = true,
                           .wide_a = true});
        check_gemm(queue, {.m = s.tokens,
                           .n = s.hidden,
                           .k = s.experts,
                           .accumulate = accumulate,
                           .wide_a = true,
                           .wide_b = true});
      }
    }
  });
}

TEST_CASE("a product without depth is zero, or what c held") {
  on_each_type([](const DeviceQueue& queue) {
    for (const bool accumulate : {false, true}) {
      check_gemm(queue, {.m = 3, .n = 5, .k = 0, .accumulate = accumulate});
      check_gemm(queue, {.m = 3,
                         .n = 5,
                         .k = 0,
                         .transpose_a = true,
                         .accumulate = accumulate,
                         .wide = true,
                         .wide_a = true});
    }
  });
}

TEST_CASE("products can be captured in a graph, measured before or not") {
  on_each_type([](const DeviceQueue& queue) {
    const Gemm shape{.m = 64, .n = 256, .k = 128, .transpose_b = true, .accumulate = true};
    const Values in = values_of(shape, queue);
    auto expected = in.c;
    for (int i = 0; i < 2; ++i)
      gemm(kCpu, shape, {.a = in.a.data(), .b = in.b.data(), .c = expected.data()});
    const auto a = queue.upload(in.a), b = queue.upload(in.b);
    const auto c = queue.upload(in.c);
    const CudaApi& api = cuda_api();
    void* stream = static_cast<const Queue&>(queue).stream;
    check_gemm(queue, {.m = 8, .n = 16, .k = 24});  // the library is ready; this shape is not
    api.begin_capture(stream);
    gemm(queue, shape, {.a = a.data(), .b = b.data(), .c = c.data()});
    void* graph = api.end_capture(stream);
    api.launch_graph(graph, stream);
    gemm(queue, shape, {.a = a.data(), .b = b.data(), .c = c.data()});
    check_close(queue.download(c), expected, chained_tolerance(queue.dtype()));
    api.release_graph(graph);
  });
}

}  // namespace
}  // namespace imhotep::kernels::test
