// Experts' second product for more than 8 tokens, in two kernels. The first streams over items of
// equal size (few_experts_stream.cuh): 32 columns of one expert and a quarter of k, so that all
// multiprocessors read all the time whichever experts were chosen, and leaves fp32 sums of every
// route in the workspace. The second, a thread 4 columns of a token, adds the parts in order, then
// bias, weight and the residual branch, whose product is a launch of its own before.

#include "kernels/few_experts_many.h"

#include <algorithm>

#include "kernels/few_experts_stream.cuh"
#include "kernels/few_rows_gemm.cuh"
#include "kernels/gemm_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kTiles = 4, kGroups = 2;
constexpr int kMostSplits = 4;
constexpr int kSumThreads = 128, kSumColumns = 4;

struct ManyTask {
  const Bf16* x = nullptr;
  const std::int32_t* expert = nullptr;
  const float* weight = nullptr;
  const Bf16* bias = nullptr;           // [experts, width]
  const Bf16* mlp = nullptr;            // [tokens, width], bias included, or null
  const float* coefficients = nullptr;  // [tokens, 2], with mlp
  float* parts = nullptr;               // [splits, routes, width]
  Bf16* y = nullptr;
  int tokens = 0, k = 0, width = 0, splits = 0;
  int own_begin = 0, own_end = 0;  // tokens that get x and, unless it is sliced, the branch
  bool sliced = false;
};

struct ManyFinish {
  float* parts;
  std::int64_t routes;
  int width;
  __device__ void begun(int) const {}
  template <class Item>
  __device__ float prepare(const Item&, int) const {
    return 0;
  }
  template <class Item>
  __device__ void put(const Item& at, int route, int column, float sum, float) const {
    parts[(at.split * routes + route) * width + column] = sum;
  }
};

template <int kTeam>
__global__ void __launch_bounds__(kFewThreads)
    experts_down_stream_kernel(ManyTask task, StreamTask stream) {
  using Memory = StreamMemory<kTiles, kGroups>;
  extern __shared__ __align__(128) unsigned char memory[];
  launch_dependents();
  auto& table = *reinterpret_cast<RouteTable*>(memory + Memory::kEnd);
  const int routes = task.tokens * task.k;
  wait_for_predecessors();
  for (int r = static_cast<int>(threadIdx.x); r < routes; r += kFewThreads) {
    table.expert[r] = __ldcg(task.expert + r);
  }
  __syncthreads();
  build_table(table, routes, stream.experts, kGroups * kTileRows);
  stream_items<kTiles, kGroups, kTeam>(
      stream, table, memory, static_cast<int>(gridDim.x),
      ManyFinish{.parts = task.parts, .routes = routes, .width = task.width});
}

__device__ void add_scaled(float (&sum)[4], float scale, float4 v) {
  sum[0] += scale * v.x;
  sum[1] += scale * v.y;
  sum[2] += scale * v.z;
  sum[3] += scale * v.w;
}
__device__ float4 four_of(const Bf16* from) {
  const uint2 v = __ldcg(reinterpret_cast<const uint2*>(from));
  const float2 a = unpack(v.x), b = unpack(v.y);
  return make_float4(a.x, a.y, b.x, b.y);
}

__global__ void __launch_bounds__(kSumThreads) experts_sum_kernel(ManyTask p) {
  launch_dependents();
  wait_for_predecessors();
  const int token = static_cast<int>(blockIdx.x);
  const int column = static_cast<int>(blockIdx.y * kSumThreads + threadIdx.x) * kSumColumns;
  if (column >= p.width) return;
  const std::int64_t at = static_cast<std::int64_t>(token) * p.width + column;
  const std::int64_t part_step = static_cast<std::int64_t>(p.tokens) * p.k * p.width;
  float sum[4] = {}, mix = 1;
  const bool own = token >= p.own_begin && token < p.own_end;
  if (own) add_scaled(sum, 1, four_of(p.x + at));
  if (p.mlp != nullptr) {
    const float other = __ldcg(p.coefficients + 2 * token + 1) - __ldcg(p.coefficients + 2 * token);
    mix = 1.0F / (1.0F + expf(other));
    if (own || p.sliced) add_scaled(sum, 1.0F / (1.0F + expf(-other)), four_of(p.mlp + at));
  }
  for (int c = 0; c < p.k; ++c) {
    const int route = token * p.k + c, expert = __ldcg(p.expert + route);
    if (expert < 0) continue;
    float of_route[4] = {};
    const float* part = p.parts + static_cast<std::int64_t>(route) * p.width + column;
    if (p.bias != nullptr) {
      const std::int64_t before = static_cast<std::int64_t>(expert) * p.width;
      add_scaled(of_route, 1, four_of(p.bias + before + column));
    }
#pragma unroll 4
    for (int s = 0; s < p.splits; ++s) {
      add_scaled(of_route, 1, __ldcg(reinterpret_cast<const float4*>(part + s * part_step)));
    }
    const float4 v = make_float4(of_route[0], of_route[1], of_route[2], of_route[3]);
    add_scaled(sum, mix * __ldcg(p.weight + route), v);
  }
  *reinterpret_cast<uint2*>(p.y + at) = make_uint2(pack(sum[0], sum[1]), pack(sum[2], sum[3]));
}

// Bias included, in memory that the products of experts leave alone.
const Bf16* multiply_residual(const Queue& queue, const FewExpertsDown& s,
                              const FewExpertsDownOperands& o) {
  auto* out = static_cast<Bf16*>(kept_memory(queue, 2 * s.tokens * s.hidden));
  run_few_rows(queue, {.x = static_cast<const Bf16*>(o.mlp_hidden),
                       .w = static_cast<const Bf16*>(o.mlp_down),
                       .bias = static_cast<const Bf16*>(o.mlp_bias),
                       .c = out,
                       .rows = static_cast<int>(s.tokens),
                       .n = static_cast<int>(s.hidden),
                       .k = static_cast<int>(s.ffn),
                       .epilogue = o.mlp_bias == nullptr ? Epilogue::None : Epilogue::Bias});
  return out;
}

}  // namespace

void few_experts_down_many(const Queue& queue, const FewExpertsDown& s,
                           const FewExpertsDownOperands& o) {
  const std::int64_t chunks = ceil_div(s.ffn, kChunk), routes = s.tokens * s.k;
  int splits = kMostSplits;
  while (splits > 1 && splits * kLeastTeam * kLeastChunks > chunks) splits /= 2;
  expect(splits * routes * s.hidden * 4 <= queue.workspace_bytes - kKeptBytes, "few_experts_down",
         "too many routes for the workspace");
  const ManyTask task{
      .x = static_cast<const Bf16*>(o.x),
      .expert = o.expert,
      .weight = static_cast<const float*>(o.weight),
      .bias = static_cast<const Bf16*>(o.down_bias),
      .mlp = s.residual ? multiply_residual(queue, s, o) : nullptr,
      .coefficients = s.residual ? static_cast<const float*>(o.coefficients) : nullptr,
      .parts = static_cast<float*>(queue.workspace),
      .y = static_cast<Bf16*>(o.y),
      .tokens = static_cast<int>(s.tokens),
      .k = static_cast<int>(s.k),
      .width = static_cast<int>(s.hidden),
      .splits = splits,
      .own_begin = static_cast<int>(std::min(s.own_begin, s.tokens)),
      .own_end = static_cast<int>(std::min(s.own_end, s.tokens)),
      .sliced = s.sliced};
  const StreamTask stream{.rows = static_cast<const Bf16*>(o.expert_hidden),
                          .weights = static_cast<const Bf16*>(o.down),
                          .columns = task.width,
                          .depth = static_cast<int>(s.ffn),
                          .experts = static_cast<int>(s.experts),
                          .tiles = static_cast<int>(ceil_div(s.hidden, kTiles * kTileRows)),
                          .splits = splits};
  with_team(chunks / splits, [&]<int kTeam> {
    launch_early(queue,
                 {.grid = dim3(context_of(queue).multiprocessors),
                  .block = dim3(kFewThreads),
                  .shared_bytes = StreamMemory<kTiles, kGroups>::kEnd + sizeof(RouteTable),
                  .name = "few_experts_down"},
                 experts_down_stream_kernel<kTeam>, task, stream);
  });
  const std::int64_t column_blocks = ceil_div(s.hidden, kSumThreads * kSumColumns);
  launch_early(queue,
               {.grid = dim3(task.tokens, static_cast<unsigned>(column_blocks)),
                .block = dim3(kSumThreads),
                .name = "few_experts_sum"},
               experts_sum_kernel, task);
}

}  // namespace imhotep::kernels::cuda
