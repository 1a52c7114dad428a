// Experts' second product of a decode step and the sum of everything: y = x + c0 * experts + c1 *
// MLP. A block owns 8 kTiles columns of y for all tokens and passes over every matrix that
// contributes to them: first the residual branch's (whose first weights it fetches before the
// predecessors are done), then each chosen expert's, 8 rows a pass. So each weight is read once,
// all blocks have the same work, and sums have a fixed order without meeting other blocks.
// So up to 8 tokens. Above, few_experts_down_many (few_experts_many_cuda.cu) serves.

#include <algorithm>

#include "kernels/few_experts.cuh"
#include "kernels/few_experts_many.h"

namespace imhotep::kernels::cuda {
namespace {

struct DownTask {
  const Bf16 *x = nullptr, *expert_hidden = nullptr;
  const std::int32_t* expert = nullptr;
  const float* weight = nullptr;
  const Bf16 *down = nullptr, *down_bias = nullptr;
  const Bf16 *mlp_hidden = nullptr, *mlp_down = nullptr, *mlp_bias = nullptr;
  const float* coefficients = nullptr;
  Bf16* y = nullptr;
  int tokens = 0, experts = 0, k = 0, width = 0, ffn = 0;  // width: hidden of the model
  int mlp_passes = 0, items = 0;
  int own_begin = 0, own_end = 0;  // tokens that get x and, unless it is sliced, the branch
  bool sliced = false;

  __device__ bool owns(int token) const { return token >= own_begin && token < own_end; }
};

struct DownShared {
  RouteTable table;
  float weight[kFewRoutes];
  float mix[kFewRows][2];
};

template <int kTiles>
struct DownMemory {  // offsets into dynamic shared memory
  using Shape = FewShape<kTiles, 1, 1>;
  static constexpr int kSums = FewRing<Shape>::bytes(Shape::kDepth);
  static constexpr int kShared = kSums + 2 * Shape::kSumBytes;
  static constexpr int kTotals = kShared + static_cast<int>(sizeof(DownShared));
  [[nodiscard]] static int bytes(int tokens) { return kTotals + tokens * Shape::kCols * 4; }
};

// A pass: one matrix and at most 8 rows for it.
struct Pass {
  int expert = -1, place = 0, rows = 0;  // expert -1: the MLP, place is a token; else in the order

  __device__ void seek(int pass, const DownTask& p, const RouteTable& table) {
    int end = p.tokens;
    if (pass < p.mlp_passes) {
      expert = -1;
      place = pass * kTileRows;
    } else {
      expert = table.expert_of_part[pass - p.mlp_passes];
      place = table.first[expert] + (pass - p.mlp_passes - table.parts_before[expert]) * kTileRows;
      end = table.first[expert + 1];
    }
    rows = end - place < kTileRows ? end - place : kTileRows;
  }
};

__device__ void read_routes(const DownTask& p, DownShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int r = thread; r < p.tokens * p.k; r += kFewThreads) {
    shared.table.expert[r] = __ldcg(p.expert + r);
    shared.weight[r] = __ldcg(p.weight + r);
  }
  // Another warp's, so that both wait for memory at once.
  for (int t = kFewThreads - 1 - thread; t < p.tokens; t += kFewThreads) {
    shared.mix[t][0] = 1.0F;
    if (p.coefficients == nullptr) continue;
    const float other = __ldcg(p.coefficients + 2 * t + 1) - __ldcg(p.coefficients + 2 * t);
    shared.mix[t][0] = 1.0F / (1.0F + expf(other));
    shared.mix[t][1] = p.sliced || p.owns(t) ? 1.0F / (1.0F + expf(-other)) : 0.0F;
  }
  __syncthreads();
  build_table(shared.table, p.tokens * p.k, p.experts);
}

template <int kTiles>
__global__ void __launch_bounds__(kFewThreads) experts_down_kernel(DownTask p) {
  using Shape = FewShape<kTiles, 1, 1>;
  constexpr int kDepth = Shape::kDepth;
  extern __shared__ __align__(128) unsigned char memory[];
  launch_dependents();
  auto& shared = *reinterpret_cast<DownShared*>(memory + DownMemory<kTiles>::kShared);
  auto* totals = reinterpret_cast<float*>(memory + DownMemory<kTiles>::kTotals);
  const RouteTable& table = shared.table;
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  const FewPart part((p.ffn + kChunk - 1) / kChunk, warp, kFewWarps);
  const FewRing<Shape> ring(memory, kDepth);
  const int lane_col = part.first * kChunk + 8 * (lane % 4);

  int fill_item = part.count > 0 ? block : p.items, fill_pass = 0, fill_chunk = 0;
  Pass filling;
  FewStrip weights, rows;
  const std::int64_t eight_rows = std::int64_t{kTileRows} * p.ffn;
  const auto fill_weights = [&](int slot) {
    if (fill_chunk == 0) {
      filling.seek(fill_pass, p, table);
      const int row = fill_item * Shape::kCols + lane / 4;
      const Bf16* matrix =
          filling.expert < 0 ? p.mlp_down
                             : p.down + static_cast<std::int64_t>(filling.expert) * p.width * p.ffn;
      weights = {matrix + static_cast<std::int64_t>(row) * p.ffn + lane_col,
                 pieces_from(row, p.width)};
    }
    copy_strip<kTiles>(ring.piece(slot, 0), weights, eight_rows,
                       lane_col + fill_chunk * kChunk < p.ffn);
  };
  const auto fill_rows = [&](int slot, const Pass& pass, int chunk) {
    if (chunk == 0) {
      rows = {p.x, 0};
      const int place = pass.place + lane / 4;
      if (lane / 4 < pass.rows) {
        const bool mlp = pass.expert < 0;
        const std::int64_t index = mlp ? place : table.order[place];
        rows = {(mlp ? p.mlp_hidden : p.expert_hidden) + index * p.ffn + lane_col, 1};
      }
    }
    copy_strip<1>(ring.piece(slot, kTiles), rows, eight_rows, lane_col + chunk * kChunk < p.ffn);
  };

  // Before the predecessors are done: weights of the MLP, whose passes come first.
  int filled = 0;
  for (; filled < kDepth && filled < part.count * p.mlp_passes && fill_item < p.items; ++filled) {
    fill_weights(filled);
    if (++fill_chunk == part.count) {
      fill_chunk = 0;
      ++fill_pass;
    }
  }
  commit_copies();
  wait_for_predecessors();
  read_routes(p, shared);
  const int passes = p.mlp_passes + table.parts_before[p.experts];
  const auto settle = [&] {  // to the next item after the last pass
    if (fill_pass < passes) return;
    fill_pass = 0;
    filling = {};
    fill_item = passes > 0 ? fill_item + blocks : p.items;
  };
  settle();
  const auto fill = [&](int slot) {
    if (fill_item >= p.items) return;
    fill_weights(slot);
    fill_rows(slot, filling, fill_chunk);
    if (++fill_chunk == part.count) {
      fill_chunk = 0;
      ++fill_pass;
      settle();
    }
  };
  Pass early;
  for (int s = 0; s < kDepth; ++s) {
    if (s < filled) {
      if (s % part.count == 0) early.seek(s / part.count, p, table);
      fill_rows(s, early, s % part.count);
    } else {
      fill(s);
    }
    commit_copies();
  }

  int slot = 0, turn = 0;
  for (int item = block; item < p.items; item += blocks) {
    const int col = item * Shape::kCols + lane;
    const bool column = lane < Shape::kCols && col < p.width;
    for (int t = warp; t < p.tokens && column; t += kFewWarps) {
      const std::int64_t at = static_cast<std::int64_t>(t) * p.width + col;
      totals[t * Shape::kCols + lane] = p.owns(t) ? to_float(p.x[at]) : 0.0F;
    }
    Pass pass;
    for (int q = 0; q < passes; ++q, turn ^= 1) {
      pass.seek(q, p, table);
      const bool mlp = pass.expert < 0, adds = column && warp < pass.rows;
      float bias = 0;
      if (adds) {
        const Bf16* biases = mlp ? p.mlp_bias : p.down_bias;
        const std::int64_t before = mlp ? 0 : static_cast<std::int64_t>(pass.expert) * p.width;
        if (biases != nullptr) bias = to_float(biases[before + col]);
      }
      float sum[kTiles][4] = {};
      for (int c = 0; c < part.count; ++c) {
        await_copies<kDepth - 1>();
        uint4 w[kTiles];
#pragma unroll
        for (int j = 0; j < kTiles; ++j) w[j] = load_shared(ring.piece(slot, j));
        const uint4 x = load_shared(ring.piece(slot, kTiles)), none = make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int j = 0; j < kTiles; ++j) multiply_chunk(sum[j], x, none, w[j]);
        fill(slot);
        commit_copies();
        slot = ring.next(slot);
      }
      float* sums =
          reinterpret_cast<float*>(memory + DownMemory<kTiles>::kSums) + turn * Shape::kSumFloats;
      store_sums<Shape>(sums + warp * kTileRows * Shape::kPitch, sum, false);
      __syncthreads();
      if (!adds) continue;
      int token = pass.place + warp;
      float scale = 0;
      if (mlp) {
        scale = shared.mix[token][1];
      } else {
        const int route = table.order[token];
        token = route / p.k;
        scale = shared.mix[token][0] * shared.weight[route];
      }
      totals[token * Shape::kCols + lane] += scale * (total_of<Shape, 1>(sums, warp, lane) + bias);
    }
    __syncthreads();
    for (int t = warp; t < p.tokens && column; t += kFewWarps) {
      p.y[static_cast<std::int64_t>(t) * p.width + col] =
          from_float<Bf16>(totals[t * Shape::kCols + lane]);
    }
  }
}

template <int kTiles>
void start(const Queue& queue, DownTask task) {
  task.items = static_cast<int>(ceil_div(task.width, kTiles * kTileRows));
  const int workers = context_of(queue).multiprocessors;
  launch_early(queue,
               {.grid = dim3(task.items < workers ? task.items : workers),
                .block = dim3(kFewThreads),
                .shared_bytes = static_cast<std::size_t>(DownMemory<kTiles>::bytes(task.tokens)),
                .name = "few_experts_down"},
               experts_down_kernel<kTiles>, task);
}

}  // namespace

void few_experts_down(const Queue& queue, const FewExpertsDown& s,
                      const FewExpertsDownOperands& o) {
  expect(queue.dtype == Dtype::Bf16 && suits_few_experts(s.tokens, s.experts, s.k, s.hidden) &&
             s.ffn % 8 == 0,
         "few_experts_down", "CUDA takes bf16 and sizes within those of core/base/few_rows.h");
  if (s.tokens > kTileRows) return few_experts_down_many(queue, s, o);
  DownTask task{.x = static_cast<const Bf16*>(o.x),
                .expert_hidden = static_cast<const Bf16*>(o.expert_hidden),
                .expert = o.expert,
                .weight = static_cast<const float*>(o.weight),
                .down = static_cast<const Bf16*>(o.down),
                .down_bias = static_cast<const Bf16*>(o.down_bias),
                .y = static_cast<Bf16*>(o.y),
                .tokens = static_cast<int>(s.tokens),
                .experts = static_cast<int>(s.experts),
                .k = static_cast<int>(s.k),
                .width = static_cast<int>(s.hidden),
                .ffn = static_cast<int>(s.ffn),
                .own_begin = static_cast<int>(std::min(s.own_begin, s.tokens)),
                .own_end = static_cast<int>(std::min(s.own_end, s.tokens)),
                .sliced = s.sliced};
  if (s.residual) {
    task.mlp_hidden = static_cast<const Bf16*>(o.mlp_hidden);
    task.mlp_down = static_cast<const Bf16*>(o.mlp_down);
    task.mlp_bias = static_cast<const Bf16*>(o.mlp_bias);
    task.coefficients = static_cast<const float*>(o.coefficients);
    task.mlp_passes = static_cast<int>(ceil_div(s.tokens, kTileRows));
  }
  switch (choose_tiles(s.hidden, context_of(queue).multiprocessors, 1, 4)) {
    case 1:
      return start<1>(queue, task);
    case 2:
      return start<2>(queue, task);
    case 3:
      return start<3>(queue, task);
    default:
      return start<4>(queue, task);
  }
}

}  // namespace imhotep::kernels::cuda
