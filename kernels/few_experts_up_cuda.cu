// Experts' first product of a decode step. Every block chooses the experts of all tokens from the
// logits (4 lanes a token), builds the table of routes, and strides over items: 8 kTiles columns of
// one expert for at most 8 of its rows. Its ring of weights never runs dry between items. Parts of
// one expert's rows are neighbours in the order of items, so that their weights are read from
// memory once. The last block writes routes, weights and balance statistics instead.

#include <cfloat>
#include <climits>

#include "kernels/few_experts.cuh"

namespace imhotep::kernels::cuda {
namespace {

struct UpTask {
  const Bf16* n = nullptr;
  const float* logits = nullptr;
  const std::int32_t* used = nullptr;
  const Bf16 *up = nullptr, *up_bias = nullptr;
  Bf16* hidden = nullptr;
  std::int32_t* expert = nullptr;
  float *weight = nullptr, *stats = nullptr;
  int tokens = 0, experts = 0, k = 0, width = 0, ffn = 0;  // width: hidden of the model
  int tiles = 0;                                           // items of one part of an expert
};

template <int kTiles>
struct UpMemory {  // offsets into dynamic shared memory; the logits lie where the ring will be
  using Shape = FewShape<kTiles, 1, 1>;
  static constexpr int kSums = FewRing<Shape>::bytes(Shape::kDepth);
  static constexpr int kTable = kSums + 2 * Shape::kSumBytes;
  static constexpr std::size_t kBytes = kTable + sizeof(RouteTable);
  static_assert(kSums >= (kFewLogits + 4 * kFewRows) * 4, "the logits need room");
};

// Row pitch of the logits in shared memory: 8 tokens x 4 lanes read without bank conflicts.
__device__ int logit_pitch(const UpTask& p) { return p.experts + 4; }

__device__ void fetch_logits(const UpTask& p, float* logits) {
  const int count = p.tokens * p.experts, pitch = logit_pitch(p);
  const int thread = static_cast<int>(threadIdx.x);
  if (p.experts % 4 == 0) {
#pragma unroll 8
    for (int i = thread * 4; i < count; i += kFewThreads * 4) {
      const float4 v = __ldcg(reinterpret_cast<const float4*>(p.logits + i));
      *reinterpret_cast<float4*>(logits + i / p.experts * pitch + i % p.experts) = v;
    }
  } else {
    for (int i = thread; i < count; i += kFewThreads) {
      logits[i / p.experts * pitch + i % p.experts] = __ldcg(p.logits + i);
    }
  }
}

// The k largest logits of every token in falling order, the lower expert first where equal: each
// pick is the best of those behind the last one in that order. 4 lanes a token.
__device__ void choose_experts(const UpTask& p, const float* logits, RouteTable& table) {
  const int quad = static_cast<int>(threadIdx.x) % 4;
  for (int first = 0; first < p.tokens; first += kFewThreads / 4) {
    const int token = first + static_cast<int>(threadIdx.x) / 4;
    const bool valid = token < p.tokens;
    const float* row = logits + (valid ? token : 0) * logit_pitch(p);
    const bool takes_part = valid && (p.used == nullptr || __ldcg(p.used + token) != 0);
    float last = INFINITY;
    int last_expert = -1;
    for (int c = 0; c < p.k; ++c) {
      float best = -INFINITY;
      int best_expert = INT_MAX;
      for (int e = quad; e < p.experts; e += 4) {
        const float v = row[e] == row[e] ? row[e] : -INFINITY;
        const bool behind = v < last || (v == last && e > last_expert);
        if (behind && (v > best || best_expert == INT_MAX)) {
          best = v;
          best_expert = e;
        }
      }
#pragma unroll
      for (int step = 1; step < 4; step *= 2) {
        const float other = __shfl_xor_sync(0xffffffffU, best, step);
        const int other_expert = __shfl_xor_sync(0xffffffffU, best_expert, step);
        if (other > best || (other == best && other_expert < best_expert)) {
          best = other;
          best_expert = other_expert;
        }
      }
      last = best;
      last_expert = best_expert;
      if (quad == 0 && valid) table.expert[token * p.k + c] = takes_part ? best_expert : -1;
    }
  }
}

// Routes, weights and statistics for whoever reads them later. `scratch`: maximum and 1 / sum of
// exponentials of each token.
__device__ void write_routes(const UpTask& p, const float* logits, const RouteTable& table,
                             float* scratch) {
  const int thread = static_cast<int>(threadIdx.x), pitch = logit_pitch(p);
  for (int token = thread; token < p.tokens; token += kFewThreads) {
    const float* row = logits + token * pitch;
    float most = -INFINITY, sum = 0, chosen = 0;
    for (int e = 0; e < p.experts; ++e) most = fmaxf(most, row[e]);
    for (int e = 0; e < p.experts; ++e) sum += expf(row[e] - most);
    scratch[2 * token] = most;
    scratch[2 * token + 1] = 1.0F / sum;
    const std::int32_t* routes = table.expert + token * p.k;
    const auto probability = [&](int c) {
      return routes[c] >= 0 ? expf(row[routes[c]] - most) * (1.0F / sum) : 0.0F;
    };
    for (int c = 0; c < p.k; ++c) chosen += probability(c);
    const float divisor = p.k == 1 ? 1.0F : fmaxf(chosen, FLT_EPSILON);
    for (int c = 0; c < p.k; ++c) {
      p.weight[token * p.k + c] = probability(c) / divisor;
      p.expert[token * p.k + c] = routes[c];
    }
  }
  __syncthreads();
  const int step = p.k == 2 ? 2 : 1;  // with two choices only the first counts for the balance
  for (int e = thread; e < p.experts; e += kFewThreads) {
    float probability = 0;
    int count = 0;
    for (int t = 0; t < p.tokens; ++t) {
      probability += expf(logits[t * pitch + e] - scratch[2 * t]) * scratch[2 * t + 1];
    }
    for (int r = 0; r < p.tokens * p.k; r += step) count += table.expert[r] == e ? 1 : 0;
    p.stats[e] = static_cast<float>(count);
    p.stats[p.experts + e] = probability;
  }
}

// An item: columns of one expert for a part of its rows. Items only move forward.
struct UpItem {
  int expert = 0, tile = 0, place = 0, rows = 0;  // place: of the part's first row in table.order

  __device__ void seek(int item, int tiles, const RouteTable& table) {
    while (tiles * table.parts_before[expert + 1] <= item) ++expert;
    const int parts = table.parts_before[expert + 1] - table.parts_before[expert];
    const int local = item - tiles * table.parts_before[expert];
    const int part = local % parts;
    tile = local / parts;
    place = table.first[expert] + part * kTileRows;
    const int left = table.first[expert + 1] - place;
    rows = left < kTileRows ? left : kTileRows;
  }
};

template <int kTiles>
__device__ void multiply_items(const UpTask& p, const RouteTable& table, unsigned char* memory) {
  using Shape = FewShape<kTiles, 1, 1>;
  constexpr int kDepth = Shape::kDepth;
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int blocks = static_cast<int>(gridDim.x) - 1;
  const int items = p.tiles * table.parts_before[p.experts];
  const FewPart part((p.width + kChunk - 1) / kChunk, warp, kFewWarps);
  const FewRing<Shape> ring(memory, kDepth);
  const int lane_col = part.first * kChunk + 8 * (lane % 4);

  int fill_item = part.count > 0 ? static_cast<int>(blockIdx.x) : items, fill_chunk = 0;
  UpItem filling;
  FewStrip weights, rows;
  const std::int64_t eight_rows = std::int64_t{kTileRows} * p.width;
  const auto fill = [&](int slot) {
    if (fill_chunk == 0) {
      filling.seek(fill_item, p.tiles, table);
      const int row = filling.tile * Shape::kCols + lane / 4;
      weights = {
          p.up + (static_cast<std::int64_t>(filling.expert) * p.ffn + row) * p.width + lane_col,
          pieces_from(row, p.ffn)};
      rows = {p.n, 0};
      if (lane / 4 < filling.rows) {
        const int token = table.order[filling.place + lane / 4] / p.k;
        rows = {p.n + static_cast<std::int64_t>(token) * p.width + lane_col, 1};
      }
    }
    const bool inside = lane_col + fill_chunk * kChunk < p.width;
    copy_strip<kTiles>(ring.piece(slot, 0), weights, eight_rows, inside);
    copy_strip<1>(ring.piece(slot, kTiles), rows, eight_rows, inside);
    if (++fill_chunk == part.count) {
      fill_chunk = 0;
      fill_item += blocks;
    }
  };
  for (int s = 0; s < kDepth; ++s) {
    if (fill_item < items) fill(s);
    commit_copies();
  }

  UpItem at;
  int slot = 0, turn = 0;
  for (int item = static_cast<int>(blockIdx.x); item < items; item += blocks, turn ^= 1) {
    at.seek(item, p.tiles, table);
    const int col = at.tile * Shape::kCols + lane;
    const bool writes = lane < Shape::kCols && col < p.ffn && warp < at.rows;
    const float bias =
        writes ? to_float(p.up_bias[static_cast<std::int64_t>(at.expert) * p.ffn + col]) : 0.0F;
    float sum[1][kTiles][4] = {};
    for (int c = 0; c < part.count; ++c) {
      await_copies<kDepth - 1>();
      uint4 w[kTiles];
#pragma unroll
      for (int j = 0; j < kTiles; ++j) w[j] = load_shared(ring.piece(slot, j));
      const uint4 x = load_shared(ring.piece(slot, kTiles)), none = make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) multiply_chunk(sum[0][j], x, none, w[j]);
      if (fill_item < items) fill(slot);
      commit_copies();
      slot = ring.next(slot);
    }
    float* sums =
        reinterpret_cast<float*>(memory + UpMemory<kTiles>::kSums) + turn * Shape::kSumFloats;
    store_sums<Shape>(sums + warp * kTileRows * Shape::kPitch, sum, false);
    __syncthreads();
    if (!writes) continue;
    const std::int64_t route = table.order[at.place + warp];
    p.hidden[route * p.ffn + col] =
        from_float<Bf16>(gelu(total_of<Shape, 1>(sums, warp, lane) + bias));
  }
}

template <int kTiles>
__global__ void __launch_bounds__(kFewThreads) experts_up_kernel(UpTask task) {
  extern __shared__ __align__(128) unsigned char memory[];
  launch_dependents();
  auto* logits = reinterpret_cast<float*>(memory);
  auto& table = *reinterpret_cast<RouteTable*>(memory + UpMemory<kTiles>::kTable);
  wait_for_predecessors();
  fetch_logits(task, logits);
  __syncthreads();
  choose_experts(task, logits, table);
  __syncthreads();
  if (blockIdx.x + 1 == gridDim.x) {
    auto* scratch = reinterpret_cast<float*>(memory + UpMemory<kTiles>::kSums);
    return write_routes(task, logits, table, scratch);
  }
  build_table(table, task.tokens * task.k, task.experts);
  multiply_items<kTiles>(task, table, memory);
}

template <int kTiles>
void start(const Queue& queue, UpTask task) {
  task.tiles = static_cast<int>(ceil_div(task.ffn, kTiles * kTileRows));
  const std::int64_t items = static_cast<std::int64_t>(task.tokens) * task.k * task.tiles;
  const std::int64_t workers = context_of(queue).multiprocessors;
  launch_early(queue,
               {.grid = dim3(static_cast<unsigned>(1 + (items < workers ? items : workers))),
                .block = dim3(kFewThreads),
                .shared_bytes = UpMemory<kTiles>::kBytes,
                .name = "few_experts_up"},
               experts_up_kernel<kTiles>, task);
}

}  // namespace

void few_experts_up(const Queue& queue, const FewExpertsUp& s, const FewExpertsUpOperands& o) {
  expect(queue.dtype == Dtype::Bf16 && suits_few_experts(s.tokens, s.experts, s.k, s.hidden),
         "few_experts_up", "CUDA takes bf16 and sizes within those of core/base/few_rows.h");
  const UpTask task{.n = static_cast<const Bf16*>(o.n),
                    .logits = static_cast<const float*>(o.logits),
                    .used = o.used,
                    .up = static_cast<const Bf16*>(o.up),
                    .up_bias = static_cast<const Bf16*>(o.up_bias),
                    .hidden = static_cast<Bf16*>(o.hidden),
                    .expert = o.expert,
                    .weight = static_cast<float*>(o.weight),
                    .stats = static_cast<float*>(o.stats),
                    .tokens = static_cast<int>(s.tokens),
                    .experts = static_cast<int>(s.experts),
                    .k = static_cast<int>(s.k),
                    .width = static_cast<int>(s.hidden),
                    .ffn = static_cast<int>(s.ffn)};
  const int multiprocessors = context_of(queue).multiprocessors;
  return choose_tiles(s.ffn, multiprocessors, 3, 4) == 4 ? start<4>(queue, task)
                                                         : start<3>(queue, task);
}

}  // namespace imhotep::kernels::cuda
