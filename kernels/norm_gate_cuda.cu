// The gate of a decode step. Two kinds of blocks in one launch:
//   product blocks  the residual branch's first product, normalising their rows themselves
//                   (few_rows_body.cuh); above 16 rows it is a launch of its own instead;
//   gate blocks     8 tokens (4 where there are many rows) and 8 logits each: a warp normalises a
//                   token, the block shares the normalised tokens (rounded to bf16, as n stores
//                   them), then a warp computes one logit of each token in fp32, its row of the
//                   router's weights held in shared memory since before the predecessors were done.

#include "kernels/few_rows_gemm.cuh"
#include "kernels/norm_gate.h"

namespace imhotep::kernels::cuda {
namespace {

struct GateTask {
  const Bf16 *x = nullptr, *gain = nullptr, *shift = nullptr;
  const float *gate = nullptr, *coefficient = nullptr, *coefficient_bias = nullptr;
  const float* noise = nullptr;  // null unless logits are to be drawn
  Bf16* n = nullptr;
  float *logits = nullptr, *coefficients = nullptr;
  int rows = 0, hidden = 0, experts = 0;
  int outputs = 0;  // experts, and 2 with a residual branch
};

constexpr int kGateTokens = kFewWarps;  // of a block: a warp normalises one
constexpr int kManyTokens = 4;          // of a block where there are many rows
constexpr int kGateRows = kFewWarps;    // logits of a block: a warp computes one

// Shared memory of a gate block, in bytes: tokens, gain, shift, weights of each warp.
[[nodiscard]] __host__ __device__ constexpr int gate_bytes(int hidden, int tokens = kGateTokens) {
  return tokens * hidden * 2 + 2 * hidden * 2 + kFewWarps * hidden * 4;
}

// n of a token from x: one warp, 16 bytes a lane at a time.
__device__ void norm_token(const GateTask& p, int token, bool writes, std::uint32_t row,
                           std::uint32_t gain, std::uint32_t shift) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, pieces = p.hidden / 8;
  const std::int64_t base = static_cast<std::int64_t>(token) * p.hidden;
  constexpr int kBatch = 8;
  float sum = 0, squares = 0;
  for (int first = lane; first < pieces; first += kBatch * kWarp) {
    uint4 v[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int at = first + i * kWarp;
      v[i] = token < p.rows && at < pieces ? __ldcg(reinterpret_cast<const uint4*>(p.x + base) + at)
                                           : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * kWarp < pieces) store_shared(row + (first + i * kWarp) * 16, v[i]);
      sum += sum_of(v[i]);
    }
  }
  const float mean = warp_sum(sum) / static_cast<float>(p.hidden);
  for (int i = lane; i < pieces; i += kWarp) squares += squares_of(load_shared(row + i * 16), mean);
  const float variance = warp_sum(squares) / static_cast<float>(p.hidden);
  const float rstd = rsqrtf(variance + static_cast<float>(kLayerNormEpsilon));
  for (int i = lane; i < pieces; i += kWarp) {
    const uint4 y = normed(load_shared(row + i * 16), load_shared(gain + i * 16),
                           load_shared(shift + i * 16), mean, rstd);
    store_shared(row + i * 16, y);
    if (writes && token < p.rows) reinterpret_cast<uint4*>(p.n + base)[i] = y;
  }
}

template <int kTokens = kGateTokens>
__device__ void gate_body(const GateTask& p, int block, unsigned char* memory) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int groups = (p.outputs + kGateRows - 1) / kGateRows;
  const int output = block % groups * kGateRows + warp, token0 = block / groups * kTokens;
  unsigned char* tokens = memory;
  const std::uint32_t gain = shared_address(tokens + kTokens * p.hidden * 2);
  const std::uint32_t shift = gain + p.hidden * 2;
  unsigned char* own = tokens + (kTokens + 2) * p.hidden * 2 + warp * p.hidden * 4;
  for (int i = static_cast<int>(threadIdx.x); i < p.hidden / 8; i += kFewThreads) {
    copy_async(gain + i * 16, p.gain + i * 8, true);
    copy_async(shift + i * 16, p.shift + i * 8, true);
  }
  const bool gate = output < p.experts;
  const float* weights = gate ? p.gate + static_cast<std::int64_t>(output) * p.hidden
                              : p.coefficient + (output - p.experts) * p.hidden;
  for (int i = lane; i < p.hidden / 4 && output < p.outputs; i += kWarp) {
    copy_async(shared_address(own) + i * 16, weights + i * 4, true);
  }
  commit_copies();
  // What is added to the sum of this lane's token: lane t writes token t.
  const int token = token0 + lane;
  const bool writes = lane < kTokens && token < p.rows && output < p.outputs;
  const std::int64_t at = gate ? static_cast<std::int64_t>(token) * p.experts + output
                               : std::int64_t{2} * token + output - p.experts;
  float result = 0;
  if (writes && !gate) result = p.coefficient_bias[output - p.experts];
  if (writes && gate && p.noise != nullptr) result = p.noise[at];
  wait_for_predecessors();
  await_copies<0>();
  __syncthreads();
  if (warp < kTokens) {
    norm_token(p, token0 + warp, block % groups == 0, shared_address(tokens) + warp * p.hidden * 2,
               gain, shift);
  }
  __syncthreads();
  if (output >= p.outputs) return;
  float sum[kTokens] = {};
  for (int i = lane; i < p.hidden / 4; i += kWarp) {
    const float4 w = *reinterpret_cast<const float4*>(own + i * 16);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (token0 + t >= p.rows) break;  // the same for the whole block
      const auto v = *reinterpret_cast<const uint2*>(tokens + (t * p.hidden + i * 4) * 2);
      const float2 a = unpack(v.x), b = unpack(v.y);
      sum[t] += w.x * a.x + w.y * a.y + w.z * b.x + w.w * b.y;
    }
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    if (token0 + t >= p.rows) break;
    const float total = warp_sum(sum[t]);
    if (lane == t) result += total;
  }
  if (writes) (gate ? p.logits : p.coefficients)[at] = result;
}

template <int kTokens>
__global__ void __launch_bounds__(kFewThreads) gate_kernel(GateTask gate) {
  extern __shared__ __align__(128) unsigned char memory[];
  launch_dependents();
  gate_body<kTokens>(gate, static_cast<int>(blockIdx.x), memory);
}

template <int kTokens>
void start_gate(const Queue& queue, const GateTask& gate) {
  const std::int64_t blocks = ceil_div(gate.outputs, kGateRows) * ceil_div(gate.rows, kTokens);
  launch_early(queue,
               {.grid = dim3(static_cast<unsigned>(blocks)),
                .block = dim3(kFewThreads),
                .shared_bytes = static_cast<std::size_t>(gate_bytes(gate.hidden, kTokens)),
                .name = "norm_gate"},
               gate_kernel<kTokens>, gate);
}

// Gate blocks come first: they are few, and the experts wait for them.
template <int kTiles, int kGroups>
__global__ void __launch_bounds__(kFewThreads)
    gate_and_product_kernel(GateTask gate, int gate_blocks, FewRowsTask product) {
  extern __shared__ __align__(128) unsigned char memory[];
  launch_dependents();
  const int block = static_cast<int>(blockIdx.x) - gate_blocks;
  if (block < 0) return gate_body(gate, static_cast<int>(blockIdx.x), memory);
  few_rows_body<kTiles, kGroups, true>(product, block, static_cast<int>(gridDim.x) - gate_blocks,
                                       memory);
}

template <int kTiles, int kGroups>
void start_both(const Queue& queue, const GateTask& gate, int gate_blocks, int product_blocks,
                FewRowsTask product) {
  const FewRowsGrid grid = plan_few_rows<kTiles, kGroups, true>(product_blocks, product);
  const auto gate_memory = static_cast<std::size_t>(gate_bytes(gate.hidden));
  launch_early(queue,
               {.grid = dim3(gate_blocks + grid.blocks),
                .block = dim3(kFewThreads),
                .shared_bytes = gate_memory > grid.shared_bytes ? gate_memory : grid.shared_bytes,
                .name = "norm_gate"},
               gate_and_product_kernel<kTiles, kGroups>, gate, gate_blocks, product);
}

// Blocks left to the product, so that no block of the launch has to wait for another to end: gate
// blocks share multiprocessors with product blocks as long as two fit.
int blocks_for_product(const Context& context, const GateTask& gate, int gate_blocks) {
  constexpr int kHiddenOfTwo = 1024;
  if (gate.rows <= kTileRows && gate.hidden <= kHiddenOfTwo) return context.multiprocessors;
  const int left = context.multiprocessors - gate_blocks;
  return left > context.multiprocessors / 2 ? left : context.multiprocessors / 2;
}

}  // namespace

void norm_gate(const Queue& queue, const NormGate& s, const NormGateOperands& o) {
  expect(queue.dtype == Dtype::Bf16 && s.rows <= kFewRows && s.hidden % 8 == 0 &&
             s.hidden <= kFewHidden,
         "norm_gate", "CUDA takes bf16, at most 128 rows, hidden a multiple of 8 up to 4096");
  const int outputs = static_cast<int>(s.experts) + (s.mlp > 0 ? 2 : 0);
  const GateTask gate{.x = static_cast<const Bf16*>(o.x),
                      .gain = static_cast<const Bf16*>(o.gain),
                      .shift = static_cast<const Bf16*>(o.shift),
                      .gate = static_cast<const float*>(o.gate),
                      .coefficient = static_cast<const float*>(o.coefficient),
                      .coefficient_bias = static_cast<const float*>(o.coefficient_bias),
                      .noise = static_cast<const float*>(o.noise),
                      .n = static_cast<Bf16*>(o.n),
                      .logits = static_cast<float*>(o.logits),
                      .coefficients = static_cast<float*>(o.coefficients),
                      .rows = static_cast<int>(s.rows),
                      .hidden = static_cast<int>(s.hidden),
                      .experts = static_cast<int>(s.experts),
                      .outputs = outputs};
  const int gate_blocks =
      static_cast<int>(ceil_div(outputs, kGateRows) * ceil_div(s.rows, kGateTokens));
  FewRowsTask product{.x = gate.x,
                      .gain = gate.gain,
                      .shift = gate.shift,
                      .w = static_cast<const Bf16*>(o.up),
                      .bias = static_cast<const Bf16*>(o.up_bias),
                      .c = static_cast<Bf16*>(o.mlp_hidden),
                      .rows = gate.rows,
                      .n = static_cast<int>(s.mlp),
                      .k = gate.hidden,
                      .epilogue = Epilogue::BiasGelu};
  if (s.mlp == 0 || !fuses_norm(s.rows, s.hidden)) {
    gate.rows > 2 * kGateTokens ? start_gate<kManyTokens>(queue, gate)
                                : start_gate<kGateTokens>(queue, gate);
    if (s.mlp == 0) return;
    product.x = gate.n;
    product.gain = product.shift = nullptr;
    return run_few_rows(queue, product);
  }
  const int blocks = blocks_for_product(context_of(queue), gate, gate_blocks);
  const bool wide = choose_tiles(s.mlp, blocks, 3, 4) == 4;
  if (s.rows <= kTileRows) {
    return wide ? start_both<4, 1>(queue, gate, gate_blocks, blocks, product)
                : start_both<3, 1>(queue, gate, gate_blocks, blocks, product);
  }
  return wide ? start_both<4, 2>(queue, gate, gate_blocks, blocks, product)
              : start_both<3, 2>(queue, gate, gate_blocks, blocks, product);
}

}  // namespace imhotep::kernels::cuda
