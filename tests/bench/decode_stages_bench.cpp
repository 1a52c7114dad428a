// Times of the stages of a decode step on a GPU without attention: every stage alone and the chains
// of a dense and of a residual MoE block, each a CUDA graph over several layers of random weights,
// together larger than the L2 cache. bf16, one token a sequence, top-1; experts as random inputs
// choose them. Bytes: weights read, those of chosen experts once; GB/s by the median replay.
// Usage: bench_decode_stages [hidden experts layers]

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/scratch.h"
#include "kernels/cuda_api.h"
#include "kernels/few_experts.h"
#include "kernels/gemm.h"
#include "kernels/initialize.h"
#include "kernels/norm_gate.h"
#include "kernels/norm_gemm.h"

namespace imhotep::kernels {
namespace {

constexpr int kReplays = 30, kWarmUp = 5, kCalls = 48;
constexpr std::int64_t kMostRows = 64, kVocab = 50304;

class Memory {
 public:
  explicit Memory(Queue& queue) : queue_(queue) {}
  ~Memory() {
    for (void* part : parts_) cuda_api().release(part);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* make(std::int64_t count, Dtype dtype, double deviation = 1, double constant = 0) {
    parts_.push_back(cuda_api().allocate(count * bytes_of(dtype)));
    Queue typed = queue_;
    typed.dtype = dtype;
    initialize(typed,
               {.seed = 1,
                .key = parts_.size(),
                .count = count,
                .constant = constant,
                .deviation = deviation},
               {.out = parts_.back()});
    return parts_.back();
  }
  void* weights(std::int64_t rows, std::int64_t depth, std::int64_t copies = 1) {
    return make(rows * depth * copies, Dtype::Bf16, 1 / std::sqrt(static_cast<double>(depth)));
  }

 private:
  Queue& queue_;
  std::vector<void*> parts_;
};

struct Layer {
  void *gain, *shift, *qkv, *qkv_bias, *projection, *bias, *up, *up_bias, *down, *gate, *mix,
      *mix_bias, *expert_up, *expert_up_bias, *expert_down, *expert_bias;
};

struct Bench {
  std::int64_t h, experts, layer_count;
  Queue queue;
  void *start, *end;
  Memory memory{queue};
  std::vector<Layer> layers;
  void *x, *n, *qkv, *context, *y, *hidden, *logits, *mix, *route_hidden, *weight, *stats, *head,
      *scores;
  std::vector<std::int32_t*> expert;  // of each layer

  void prepare();
  void run(std::int64_t rows);
  double replay_us(const std::function<void(int)>& call) const;
  // call(layer)
  void report(const char* name, double bytes, const std::function<void(int)>& call) const {
    report_calls(name, bytes, [&](int i) { call(i % static_cast<int>(layer_count)); });
  }
  // call(number of the call in the graph)
  void report_calls(const char* name, double bytes, const std::function<void(int)>& call) const {
    const double us = replay_us(call) / kCalls;
    std::printf("  %-22s %8.2f us %8.1f MB %8.1f GB/s\n", name, us, bytes * 1e-6,
                bytes / us * 1e-3);
  }
};

void Bench::prepare() {
  const std::int64_t f = 4 * h;
  for (std::int64_t l = 0; l < layer_count; ++l) {
    layers.push_back({.gain = memory.make(h, Dtype::Bf16, 0.1, 1),
                      .shift = memory.make(h, Dtype::Bf16, 0.1),
                      .qkv = memory.weights(3 * h, h),
                      .qkv_bias = memory.make(3 * h, Dtype::Bf16, 0.1),
                      .projection = memory.weights(h, h),
                      .bias = memory.make(h, Dtype::Bf16, 0.1),
                      .up = memory.weights(f, h),
                      .up_bias = memory.make(f, Dtype::Bf16, 0.1),
                      .down = memory.weights(h, f),
                      .gate = memory.make(experts * h, Dtype::F32, 0.05),
                      .mix = memory.make(2 * h, Dtype::F32, 0.05),
                      .mix_bias = memory.make(2, Dtype::F32, 0.1),
                      .expert_up = memory.weights(f, h, experts),
                      .expert_up_bias = memory.make(experts * f, Dtype::Bf16, 0.1),
                      .expert_down = memory.weights(h, f, experts),
                      .expert_bias = memory.make(experts * h, Dtype::Bf16, 0.1)});
    expert.push_back(static_cast<std::int32_t*>(memory.make(kMostRows, Dtype::F32, 0)));
  }
  x = memory.make(kMostRows * h, Dtype::Bf16);
  n = memory.make(kMostRows * h, Dtype::Bf16);
  qkv = memory.make(kMostRows * 3 * h, Dtype::Bf16);
  context = memory.make(kMostRows * h, Dtype::Bf16);
  y = memory.make(kMostRows * h, Dtype::Bf16);
  hidden = memory.make(kMostRows * f, Dtype::Bf16);
  route_hidden = memory.make(kMostRows * f, Dtype::Bf16);
  logits = memory.make(kMostRows * experts, Dtype::F32);
  mix = memory.make(kMostRows * 2, Dtype::F32);
  weight = memory.make(kMostRows, Dtype::F32);
  stats = memory.make(2 * experts, Dtype::F32);
  head = memory.weights(kVocab, h);
  scores = memory.make(kMostRows * kVocab, Dtype::Bf16);
  cuda_api().wait(queue.stream);
}

double Bench::replay_us(const std::function<void(int)>& call) const {
  const CudaApi& api = cuda_api();
  call(0);  // outside a capture first: shapes may be prepared
  api.wait(queue.stream);
  api.begin_capture(queue.stream);
  for (int i = 0; i < kCalls; ++i) call(i);
  void* graph = api.end_capture(queue.stream);
  std::vector<double> times;
  for (int i = 0; i < kWarmUp + kReplays; ++i) {
    api.record(start, queue.stream);
    api.launch_graph(graph, queue.stream);
    api.record(end, queue.stream);
    const double us = api.elapsed_us(start, end);
    if (i >= kWarmUp) times.push_back(us);
  }
  api.release_graph(graph);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void Bench::run(std::int64_t rows) {
  const std::int64_t f = 4 * h;
  const auto product = [&](const void* a, const void* w, const void* bias, const void* addend,
                           void* c, std::int64_t out, std::int64_t in) {
    gemm(queue,
         {.m = rows, .n = out, .k = in, .transpose_b = true, .epilogue = Epilogue::BiasResidual},
         {.a = a, .b = w, .bias = bias, .addend = addend, .c = c});
  };
  const auto norm_product = [&](int l, const void* w, const void* bias, void* c, std::int64_t out,
                                Epilogue epilogue) {
    norm_gemm(
        queue, {.rows = rows, .n = out, .k = h, .epilogue = epilogue},
        {.x = x, .gain = layers[l].gain, .shift = layers[l].shift, .b = w, .bias = bias, .c = c});
  };
  const auto qkv_stage = [&](int l) {
    norm_product(l, layers[l].qkv, layers[l].qkv_bias, qkv, 3 * h, Epilogue::Bias);
  };
  const auto projection = [&](int l) {
    product(context, layers[l].projection, layers[l].bias, x, y, h, h);
  };
  // Alone, weights of projections would stay in the L2 cache: quarters of larger matrices serve.
  const auto cold_projection = [&](int l, int call) {
    const auto* quarter = static_cast<const std::byte*>(layers[l].up) + call % 4 * 2 * h * h;
    product(context, quarter, layers[l].bias, x, y, h, h);
  };
  const auto up = [&](int l) {
    norm_product(l, layers[l].up, layers[l].up_bias, hidden, f, Epilogue::BiasGelu);
  };
  const auto down = [&](int l) { product(hidden, layers[l].down, layers[l].bias, x, y, h, f); };
  const auto gate = [&](int l) {
    const Layer& w = layers[l];
    norm_gate(queue, {.rows = rows, .hidden = h, .experts = experts, .mlp = f},
              {.x = x,
               .gain = w.gain,
               .shift = w.shift,
               .gate = w.gate,
               .coefficient = w.mix,
               .coefficient_bias = w.mix_bias,
               .up = w.up,
               .up_bias = w.up_bias,
               .n = n,
               .logits = logits,
               .coefficients = mix,
               .mlp_hidden = hidden});
  };
  const auto experts_up = [&](int l) {
    few_experts_up(queue, {.tokens = rows, .experts = experts, .k = 1, .hidden = h, .ffn = f},
                   {.n = n,
                    .logits = logits,
                    .up = layers[l].expert_up,
                    .up_bias = layers[l].expert_up_bias,
                    .down = layers[l].expert_down,
                    .hidden = route_hidden,
                    .expert = expert[l],
                    .weight = weight,
                    .stats = stats});
  };
  const auto experts_down = [&](int l) {
    const Layer& w = layers[l];
    few_experts_down(
        queue,
        {.tokens = rows, .experts = experts, .k = 1, .hidden = h, .ffn = f, .residual = true},
        {.x = x,
         .expert_hidden = route_hidden,
         .expert = expert[l],
         .weight = weight,
         .down = w.expert_down,
         .down_bias = w.expert_bias,
         .mlp_hidden = hidden,
         .mlp_down = w.down,
         .mlp_bias = w.bias,
         .coefficients = mix,
         .y = y});
  };
  const auto head_stage = [&](int l) {
    norm_product(l, head, nullptr, scores, kVocab, Epilogue::None);
  };

  // All layers choose by the same logits when timed alone: one set of chosen experts.
  gate(0);
  for (int l = 0; l < static_cast<int>(layer_count); ++l) experts_up(l);
  std::vector<std::int32_t> chosen(static_cast<std::size_t>(rows));
  cuda_api().copy_out(chosen.data(), expert[0], rows * 4, queue.stream);
  cuda_api().wait(queue.stream);
  const auto active =
      static_cast<double>(std::set<std::int32_t>(chosen.begin(), chosen.end()).size());
  const double square = 2.0 * static_cast<double>(h * h),
               router = 4.0 * static_cast<double>(h) * static_cast<double>(experts + 2);
  std::printf("h %ld, E %ld, B %ld: %.0f experts chosen\n", static_cast<long>(h),
              static_cast<long>(experts), static_cast<long>(rows), active);
  report("ln1_qkv", 3 * square, qkv_stage);
  report_calls("projection", square,
               [&](int i) { cold_projection(i / 4 % static_cast<int>(layer_count), i); });
  report("ln2_up", 4 * square, up);
  report("down", 4 * square, down);
  report("dense block", 12 * square, [&](int l) {
    qkv_stage(l);
    projection(l);
    up(l);
    down(l);
  });
  report("gate_mlp_up", 4 * square + router, gate);
  gate(0);
  report("experts_up", 4 * square * active, experts_up);
  report("experts_down", 4 * square * (active + 1), experts_down);
  report("head", static_cast<double>(2 * kVocab * h), head_stage);
}

int measure(int count, char** arguments) {
  const auto number = [&](int i, std::int64_t standard) {
    return count > i ? std::strtoll(arguments[i], nullptr, 10) : standard;
  };
  const CudaApi& api = cuda_api();
  void* workspace = api.allocate(kCudaWorkspaceBytes);
  Bench bench{.h = number(1, 1024), .experts = number(2, 32), .layer_count = number(3, 12)};
  bench.queue = {.device = Device::Cuda,
                 .dtype = Dtype::Bf16,
                 .stream = api.make_stream(false),
                 .context = api.make_context(),
                 .workspace = workspace,
                 .workspace_bytes = kCudaWorkspaceBytes};
  bench.start = api.make_event();
  bench.end = api.make_event();
  bench.prepare();
  for (const std::int64_t rows : {1, 8, 64}) bench.run(rows);
  return 0;
}

}  // namespace
}  // namespace imhotep::kernels

int main(int count, char** arguments) {
  try {
    return imhotep::kernels::measure(count, arguments);
  } catch (const imhotep::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
