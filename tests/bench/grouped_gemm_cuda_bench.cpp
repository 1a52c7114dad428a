// Times of the grouped products of one MoE layer on a GPU: T rows, routed uniformly at random to E
// experts, hidden h and 4 h, every mode, bf16. Random data, operands rotated so that none is in the
// L2 cache, one event pair a run, the median of 20. Bytes: every operand once.
// Usage: grouped_gemm_cuda_bench [T]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/scratch.h"
#include "kernels/cuda_api.h"
#include "kernels/grouped_gemm.h"

namespace imhotep::kernels {
namespace {

constexpr int kRuns = 20, kWarmUp = 3;

struct Memory {
  explicit Memory(std::int64_t bytes) : data(cuda_api().allocate(bytes)) {}
  ~Memory() { cuda_api().release(data); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data;
};

// Random bf16 values in [-1, 1), the same 16 MiB again and again.
void fill(void* memory, std::int64_t bytes, void* stream) {
  static const std::vector<std::uint16_t> pattern = [] {
    std::vector<std::uint16_t> made(8 << 20);
    for (std::size_t i = 0; i < made.size(); ++i) {
      const std::uint64_t bits = mix64(i);
      // sign and mantissa at random, exponents of [2^-4, 1)
      made[i] = static_cast<std::uint16_t>((bits & 0x807fU) | ((123 + (bits >> 32) % 4) << 7));
    }
    return made;
  }();
  const auto size = static_cast<std::int64_t>(pattern.size() * sizeof(std::uint16_t));
  for (std::int64_t at = 0; at < bytes; at += size) {
    cuda_api().copy_in(static_cast<char*>(memory) + at, pattern.data(), std::min(size, bytes - at),
                       stream);
  }
  cuda_api().wait(stream);
}

struct Bench {
  std::int64_t rows, hidden, experts;
  Queue queue;
  void *start, *end;

  template <class Call>
  void time(const std::string& name, double flops, double bytes, Call call) const {
    std::vector<double> times;
    for (int run = 0; run < kRuns + kWarmUp; ++run) {
      cuda_api().record(start, queue.stream);
      call(run % 2);
      cuda_api().record(end, queue.stream);
      const double us = cuda_api().elapsed_us(start, end);
      if (run >= kWarmUp) times.push_back(us);
    }
    std::sort(times.begin(), times.end());
    const double us = times[times.size() / 2];
    std::printf("  %-34s %8.1f us (%.1f to %.1f)  %6.1f TFLOPS  %7.1f GB/s\n", name.c_str(), us,
                times.front(), times.back(), flops / us * 1e-6, bytes / us * 1e-3);
  }
  void run() const;
};

void Bench::run() const {
  const std::int64_t wide = 4 * hidden, weights = experts * hidden * wide;
  std::printf("T %ld, h %ld, E %ld: %.0f rows an expert\n", static_cast<long>(rows),
              static_cast<long>(hidden), static_cast<long>(experts),
              static_cast<double>(rows) / static_cast<double>(experts));
  std::vector<std::int32_t> offsets(static_cast<std::size_t>(experts) + 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    ++offsets[1 + hash(1, static_cast<std::uint64_t>(row)) % static_cast<std::uint64_t>(experts)];
  }
  for (std::size_t e = 1; e < offsets.size(); ++e) offsets[e] += offsets[e - 1];
  const auto table_bytes = static_cast<std::int64_t>(offsets.size() * sizeof(std::int32_t));
  const Memory table(table_bytes);
  cuda_api().copy_in(table.data, offsets.data(), table_bytes, queue.stream);
  // Two of everything, used in turn: each is larger than the L2 cache where that matters.
  const Memory weight0(2 * weights), weight1(2 * weights), gradient(2 * weights);
  const Memory narrow0(2 * rows * hidden), narrow1(2 * rows * hidden), narrow2(2 * rows * hidden);
  const Memory wide0(2 * rows * wide), wide1(2 * rows * wide), wide2(2 * rows * wide);
  const Memory bias(2 * experts * wide);
  for (const auto& [memory, count] : {std::pair{&weight0, weights},
                                      {&weight1, weights},
                                      {&gradient, weights},
                                      {&narrow0, rows * hidden},
                                      {&narrow1, rows * hidden},
                                      {&narrow2, rows * hidden},
                                      {&wide0, rows * wide},
                                      {&wide1, rows * wide},
                                      {&wide2, rows * wide},
                                      {&bias, experts * wide}}) {
    fill(memory->data, 2 * count, queue.stream);
  }
  const double flops = 2.0 * static_cast<double>(rows * hidden) * static_cast<double>(wide);
  const auto w = static_cast<double>(2 * weights), x = static_cast<double>(2 * rows * hidden),
             y = static_cast<double>(2 * rows * wide);
  const void* weight[2] = {weight0.data, weight1.data};
  const void* narrow[2] = {narrow0.data, narrow1.data};
  void* broad[2] = {wide0.data, wide1.data};
  const auto product = [&](GroupedMode mode, std::int64_t n, std::int64_t k, Epilogue epilogue,
                           bool accumulate, GroupedGemmOperands operands) {
    operands.expert_offsets = static_cast<const std::int32_t*>(table.data);
    grouped_gemm(queue,
                 {.mode = mode,
                  .rows = {rows, static_cast<double>(rows)},
                  .experts = experts,
                  .n = n,
                  .k = k,
                  .epilogue = epilogue,
                  .accumulate = accumulate},
                 operands);
  };
  const auto up = [&](Epilogue epilogue, void* pre, int turn) {
    product(GroupedMode::Forward, wide, hidden, epilogue, false,
            {.in = narrow[turn],
             .weight = weight[turn],
             .bias = bias.data,
             .pre = pre,
             .out = broad[turn]});
  };
  const auto back = [&](std::int64_t n, std::int64_t k, Epilogue epilogue, const void* in,
                        void* pre, void* out, int turn) {
    product(GroupedMode::GradInput, n, k, epilogue, false,
            {.in = in, .weight = weight[turn], .pre = pre, .out = out});
  };
  const auto outer = [&](std::int64_t n, std::int64_t k, bool accumulate, const void* in,
                         const void* activation) {
    product(GroupedMode::GradWeight, n, k, Epilogue::None, accumulate,
            {.in = in, .activation = activation, .d_weight = gradient.data});
  };
  time("up: forward", flops, w + x + y, [&](int t) { up(Epilogue::None, nullptr, t); });
  time("up: forward, bias, GELU", flops, w + x + y,
       [&](int t) { up(Epilogue::BiasGelu, nullptr, t); });
  time("up: forward, bias, GELU, pre kept", flops, w + x + 2 * y,
       [&](int t) { up(Epilogue::BiasGelu, wide2.data, t); });
  time("down: forward, bias", flops, w + x + y, [&](int t) {
    product(GroupedMode::Forward, hidden, wide, Epilogue::Bias, false,
            {.in = broad[t], .weight = weight[t], .bias = bias.data, .out = narrow2.data});
  });
  time("down: input gradient, GELU slope", flops, w + x + 2 * y,
       [&](int t) { back(hidden, wide, Epilogue::GeluGrad, narrow[t], wide2.data, broad[t], t); });
  time("up: input gradient", flops, w + x + y,
       [&](int t) { back(wide, hidden, Epilogue::None, broad[t], nullptr, narrow2.data, t); });
  time("down: weight gradient", flops, w + x + y,
       [&](int t) { outer(hidden, wide, false, narrow[t], broad[t]); });
  time("up: weight gradient", flops, w + x + y,
       [&](int t) { outer(wide, hidden, false, broad[t], narrow[t]); });
  time("up: weight gradient, added", flops, 2 * w + x + y,
       [&](int t) { outer(wide, hidden, true, broad[t], narrow[t]); });
  const auto sums = [&](const void* in, std::int64_t columns) {
    grouped_column_sum(queue, {{rows, static_cast<double>(rows)}, experts, columns},
                       {static_cast<const std::int32_t*>(table.data), in, bias.data});
  };
  time("down: bias gradient", x / 2, x, [&](int t) { sums(narrow[t], hidden); });
  time("up: bias gradient", y / 2, y, [&](int t) { sums(broad[t], wide); });
}

int run(std::int64_t rows) {
  std::string why;
  const CudaApi* api = find_cuda_api(&why);
  if (api == nullptr || api->device_count() == 0) {
    std::printf("no GPU: %s\n", why.c_str());
    return 77;
  }
  std::printf("%s\n", api->device(0).name);
  const Memory workspace(kCudaWorkspaceBytes), fault(sizeof(FaultRecord));
  const Queue queue{.device = Device::Cuda,
                    .dtype = Dtype::Bf16,
                    .stream = api->make_stream(false),
                    .context = api->make_context(),
                    .workspace = workspace.data,
                    .workspace_bytes = kCudaWorkspaceBytes,
                    .fault = static_cast<FaultRecord*>(fault.data)};
  api->set(fault.data, 0, sizeof(FaultRecord), queue.stream);
  for (const auto& [hidden, experts] : {std::pair{1024, 32}, {2048, 64}, {2048, 128}}) {
    Bench{rows, hidden, experts, queue, api->make_event(), api->make_event()}.run();
  }
  return 0;
}

}  // namespace
}  // namespace imhotep::kernels

int main(int count, char** arguments) {
  try {
    return imhotep::kernels::run(count > 1 ? std::atol(arguments[1]) : 16384);
  } catch (const imhotep::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
