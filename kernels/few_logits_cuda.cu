// The router's products with two, four or eight logits a token: few experts, or the coefficients of
// the residual branch. They are bound by memory, so fp32 multiply-adds serve.
//   forward          a warp takes kAhead tokens, its lanes 8 channels each at a time; the weights
//                    lie in shared memory, halves of 8 channels apart so that no banks collide
//   input gradient   a block of 32 x 8 threads: a thread keeps the weights of 8 channels in
//                    registers and walks over tokens, kAhead at once
//   weight gradient  the same, with sums for each logit; a block leaves its sums in the workspace
//                    and add_partials sums them

#include "kernels/cuda_columns.cuh"
#include "kernels/gemm_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = kThreads / kWarp;  // tokens a block takes at once, a warp each
constexpr int kStep = kLanes<Bf16>;            // channels of a thread
constexpr int kAhead = 4;                      // loads in flight of a thread
constexpr int kBlocksPerSm = 2;                // leaves a thread 128 registers
constexpr int kMostShared = 48 << 10;
constexpr std::int64_t kFewestTokens = 129;  // below, a product is latency

struct Task {
  std::int64_t tokens = 0, hidden = 0;
  const float* wide = nullptr;   // forward: weights [logits, hidden]; gradients: [tokens, logits]
  const float* other = nullptr;  // forward: bias or null; input gradient: weights
  const Bf16* data = nullptr;    // [tokens, hidden]; forward and weight gradient
  void* out = nullptr;
  bool accumulate = false;
};

template <int kLogits>
struct alignas(kLogits * 4 < 16 ? kLogits * 4 : 16) Logits {
  float at[kLogits];
};

template <int kLogits>
__global__ void __launch_bounds__(kThreads) few_forward(Task task) {
  extern __shared__ float4 weights[];  // [logits, 2, hidden / 8]
  const int pieces = static_cast<int>(task.hidden) / kStep;
  for (int i = static_cast<int>(threadIdx.x); i < kLogits * pieces * 2; i += kThreads) {
    const int row = i / (2 * pieces), piece = i % (2 * pieces);
    weights[(2 * row + piece % 2) * pieces + piece / 2] =
        reinterpret_cast<const float4*>(task.wide)[i];
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t warp =
      static_cast<std::int64_t>(blockIdx.x) * kRowThreads + static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kRowThreads * kAhead;
  for (std::int64_t token = warp * kAhead; token < task.tokens; token += step) {
    float sum[kAhead][kLogits] = {};
    for (int piece = lane; piece < pieces; piece += kWarp) {
      Raw<Bf16, kStep> raw[kAhead];
#pragma unroll
      for (int r = 0; r < kAhead; ++r) {  // beyond the tokens the last comes again
        const std::int64_t row = min(token + r, task.tokens - 1);
        raw[r] = load_raw<Bf16, kStep>(task.data + row * task.hidden + piece * kStep);
      }
#pragma unroll
      for (int l = 0; l < kLogits; ++l) {
        const float4 low = weights[2 * l * pieces + piece];
        const float4 high = weights[(2 * l + 1) * pieces + piece];
        const float w[kStep] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int r = 0; r < kAhead; ++r) {
          const Lanes<kStep> x = raw[r].lanes();
#pragma unroll
          for (int i = 0; i < kStep; ++i) sum[r][l] += x.at[i] * w[i];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      Logits<kLogits> total;
#pragma unroll
      for (int l = 0; l < kLogits; ++l) {
        total.at[l] = warp_sum(sum[r][l]) + (task.other != nullptr ? task.other[l] : 0.0F);
      }
      if (lane == r && token + r < task.tokens) {
        static_cast<Logits<kLogits>*>(task.out)[token + r] = total;
      }
    }
  }
}

template <int kLogits>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) few_input_grad(Task task) {
  const std::int64_t channel =
      (static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x) * kStep;
  if (channel >= task.hidden) return;
  float w[kLogits][kStep];
#pragma unroll
  for (int l = 0; l < kLogits; ++l) {
#pragma unroll
    for (int i = 0; i < kStep; i += 4) {
      const float4 four =
          *reinterpret_cast<const float4*>(task.other + l * task.hidden + channel + i);
      w[l][i] = four.x, w[l][i + 1] = four.y, w[l][i + 2] = four.z, w[l][i + 3] = four.w;
    }
  }
  Bf16* out = static_cast<Bf16*>(task.out) + channel;
  const auto* logits = reinterpret_cast<const Logits<kLogits>*>(task.wide);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kRowThreads;
  for (std::int64_t token = blockIdx.y * kRowThreads + threadIdx.y; token < task.tokens;
       token += kAhead * step) {
    Raw<Bf16, kStep> raw[kAhead] = {};
    Logits<kLogits> d[kAhead];
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      const std::int64_t row = min(token + r * step, task.tokens - 1);
      d[r] = logits[row];
      if (task.accumulate) raw[r] = load_raw<Bf16, kStep>(out + row * task.hidden);
    }
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      Lanes<kStep> x = raw[r].lanes();
#pragma unroll
      for (int l = 0; l < kLogits; ++l) {
#pragma unroll
        for (int i = 0; i < kStep; ++i) x.at[i] += d[r].at[l] * w[l][i];
      }
      const std::int64_t row = token + r * step;
      if (row < task.tokens) store_lanes<Bf16, kStep>(out + row * task.hidden, x);
    }
  }
}

template <int kLogits>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) few_weight_grad(Task task) {
  __shared__ float sums[kRowThreads][kWarp * kStep];
  const int lane = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const std::int64_t channel = (static_cast<std::int64_t>(blockIdx.x) * kWarp + lane) * kStep;
  float sum[kLogits][kStep] = {};
  const auto* logits = reinterpret_cast<const Logits<kLogits>*>(task.wide);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kRowThreads;
  const std::int64_t end = channel < task.hidden ? task.tokens : 0;
  for (std::int64_t token = blockIdx.y * kRowThreads + y; token < end; token += kAhead * step) {
    Raw<Bf16, kStep> raw[kAhead];
    Logits<kLogits> d[kAhead];
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      const std::int64_t row = min(token + r * step, task.tokens - 1);
      d[r] = logits[row];
      raw[r] = load_raw<Bf16, kStep>(task.data + row * task.hidden + channel);
    }
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      if (token + r * step >= task.tokens) continue;
      const Lanes<kStep> x = raw[r].lanes();
#pragma unroll
      for (int l = 0; l < kLogits; ++l) {
#pragma unroll
        for (int i = 0; i < kStep; ++i) sum[l][i] += d[r].at[l] * x.at[i];
      }
    }
  }
  float* partial = static_cast<float*>(task.out) + blockIdx.y * kLogits * task.hidden;
#pragma unroll
  for (int l = 0; l < kLogits; ++l) {
#pragma unroll
    for (int i = 0; i < kStep; ++i) sums[y][i * kWarp + lane] = sum[l][i];
    __syncthreads();
    for (int i = y; i < kStep; i += kRowThreads) {
      float total = 0;
#pragma unroll
      for (int row = 0; row < kRowThreads; ++row) total += sums[row][i * kWarp + lane];
      if (channel < task.hidden) partial[l * task.hidden + channel + i] = total;
    }
    __syncthreads();
  }
}

// Blocks across the channels, and down the tokens as many as run at once.
dim3 grid_of(const Queue& queue, const Task& task) {
  const std::int64_t across = ceil_div(task.hidden, kWarp * kStep);
  const std::int64_t down =
      std::max<std::int64_t>(1, context_of(queue).multiprocessors * kBlocksPerSm / across);
  return {static_cast<unsigned>(across), blocks_for(task.tokens, kRowThreads * kAhead, down)};
}

template <int kLogits>
void forward(const Queue& queue, const Task& task) {
  const std::int64_t most = std::int64_t{4} * context_of(queue).multiprocessors;
  few_forward<kLogits><<<blocks_for(task.tokens, kRowThreads * kAhead, most), kThreads,
                         kLogits * task.hidden * sizeof(float), stream_of(queue)>>>(task);
  IMHOTEP_LAUNCHED("gemm of few logits");
}

template <int kLogits>
void input_grad(const Queue& queue, const Task& task) {
  few_input_grad<kLogits>
      <<<grid_of(queue, task), dim3(kWarp, kRowThreads), 0, stream_of(queue)>>>(task);
  IMHOTEP_LAUNCHED("gemm of few logits");
}

template <int kLogits>
void weight_grad(const Queue& queue, Task task) {
  auto* out = static_cast<float*>(task.out);
  const dim3 grid = grid_of(queue, task);
  task.out = queue.workspace;
  few_weight_grad<kLogits><<<grid, dim3(kWarp, kRowThreads), 0, stream_of(queue)>>>(task);
  IMHOTEP_LAUNCHED("gemm of few logits");
  launch_add_partials<float>(queue,
                             {.partial = static_cast<const float*>(queue.workspace),
                              .count = static_cast<int>(grid.y),
                              .columns = kLogits * task.hidden,
                              .out = {out},
                              .accumulate = task.accumulate},
                             1);
}

template <int kLogits>
void run(const Queue& queue, const Gemm& s, const GemmOperands& o) {
  Task task{.out = o.c, .accumulate = s.accumulate};
  if (s.transpose_b) {
    task.tokens = s.m, task.hidden = s.k;
    task.wide = static_cast<const float*>(o.b), task.data = static_cast<const Bf16*>(o.a);
    task.other = s.epilogue == Epilogue::Bias ? static_cast<const float*>(o.bias) : nullptr;
    return forward<kLogits>(queue, task);
  }
  task.hidden = s.n;
  task.wide = static_cast<const float*>(o.a);
  if (s.transpose_a) {
    task.tokens = s.k, task.data = static_cast<const Bf16*>(o.b);
    return weight_grad<kLogits>(queue, task);
  }
  task.tokens = s.m, task.other = static_cast<const float*>(o.b);
  input_grad<kLogits>(queue, task);
}

}  // namespace

bool few_logits_product(const Queue& queue, const Gemm& s, const GemmOperands& o) {
  const bool plain = s.epilogue == Epilogue::None;
  const bool is_forward = s.transpose_b && !s.transpose_a && s.wide_b && !s.wide_a && s.wide &&
                          !s.accumulate && (plain || s.epilogue == Epilogue::Bias);
  const bool is_weight_grad =
      s.transpose_a && !s.transpose_b && s.wide_a && !s.wide_b && s.wide && plain;
  const bool is_input_grad =
      !s.transpose_a && !s.transpose_b && s.wide_a && s.wide_b && !s.wide && plain;
  if (!is_forward && !is_weight_grad && !is_input_grad) return false;
  const std::int64_t tokens = is_weight_grad ? s.k : s.m, hidden = is_forward ? s.k : s.n;
  const std::int64_t logits = is_forward ? s.n : is_weight_grad ? s.m : s.k;
  constexpr std::int64_t kMostAcross = kMostShared / static_cast<std::int64_t>(sizeof(float));
  if (tokens < kFewestTokens || !sixteen(hidden, sizeof(Bf16), {o.a, o.b, o.c}) ||
      logits * hidden > kMostAcross) {
    return false;
  }
  if (logits == 2) run<2>(queue, s, o);
  if (logits == 4) run<4>(queue, s, o);
  if (logits == 8) run<8>(queue, s, o);
  return logits == 2 || logits == 4 || logits == 8;
}

}  // namespace imhotep::kernels::cuda
