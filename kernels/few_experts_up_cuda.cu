// Experts' first product of a decode step. Every block chooses the experts of all tokens from the
// logits (4 lanes a token), builds the table of routes, and strides over items: 8 kTiles columns of
// one expert for some of its rows (few_experts_stream.cuh), 16 of them beyond 8 tokens. The last
// block writes routes, weights and balance statistics instead. Which experts the next kernel will
// read is known here first: with few of them their second matrices are brought to the second-level
// cache while the first ones are multiplied.

#include <algorithm>
#include <cfloat>
#include <climits>

#include "kernels/few_experts_stream.cuh"

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
  const Bf16* down = nullptr;    // of the experts, to be read ahead; or null
  std::uint32_t down_bytes = 0;  // of one expert
  int tokens = 0, experts = 0, k = 0, width = 0, ffn = 0;  // width: hidden of the model
  int first_expert = 0, held = 0;                          // experts here; routes count from them
  int own_begin = 0, own_end = 0;                          // tokens that the statistics count

  __device__ int here(int number) const {
    return number >= first_expert && number < first_expert + held ? number - first_expert : -1;
  }
};

template <int kTiles, int kGroups>
struct UpMemory {  // offsets into dynamic shared memory; the logits lie where the ring will be
  using Stream = StreamMemory<kTiles, kGroups>;
  static constexpr int kScratch = Stream::kSums, kTable = Stream::kEnd;
  static constexpr std::size_t kBytes = kTable + sizeof(RouteTable);
  static_assert(kScratch >= (kFewLogits + 4 * kFewRows) * 4, "the logits need room");
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
// pick is the best of those behind the last one in that order. kLanes lanes a token.
template <int kLanes>
__device__ void choose_experts(const UpTask& p, const float* logits, RouteTable& table) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int first = 0; first < p.tokens; first += kFewThreads / kLanes) {
    const int token = first + static_cast<int>(threadIdx.x) / kLanes;
    const bool valid = token < p.tokens;
    const float* row = logits + (valid ? token : 0) * logit_pitch(p);
    const bool takes_part = valid && (p.used == nullptr || __ldcg(p.used + token) != 0);
    float last = INFINITY;
    int last_expert = -1;
    for (int c = 0; c < p.k; ++c) {
      float best = -INFINITY;
      int best_expert = INT_MAX;
      for (int e = lane; e < p.experts; e += kLanes) {
        const float v = row[e] == row[e] ? row[e] : -INFINITY;
        const bool behind = v < last || (v == last && e > last_expert);
        if (behind && (v > best || best_expert == INT_MAX)) {
          best = v;
          best_expert = e;
        }
      }
#pragma unroll
      for (int step = 1; step < kLanes; step *= 2) {
        const float other = __shfl_xor_sync(0xffffffffU, best, step);
        const int other_expert = __shfl_xor_sync(0xffffffffU, best_expert, step);
        if (other > best || (other == best && other_expert < best_expert)) {
          best = other;
          best_expert = other_expert;
        }
      }
      last = best;
      last_expert = best_expert;
      if (lane == 0 && valid) table.expert[token * p.k + c] = takes_part ? best_expert : -1;
    }
  }
}

// Routes, weights and statistics for whoever reads them later, a warp a token. `scratch`: maximum
// and 1 / sum of exponentials of each token.
__device__ void write_routes(const UpTask& p, const float* logits, const RouteTable& table,
                             float* scratch) {
  const int thread = static_cast<int>(threadIdx.x), pitch = logit_pitch(p);
  const int lane = thread % kWarp;
  for (int token = thread / kWarp; token < p.tokens; token += kFewWarps) {
    const float* row = logits + token * pitch;
    float most = -INFINITY, sum = 0, chosen = 0;
    for (int e = lane; e < p.experts; e += kWarp) most = fmaxf(most, row[e]);
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, step));
    }
    for (int e = lane; e < p.experts; e += kWarp) sum += expf(row[e] - most);
    const float scale = 1.0F / warp_sum(sum);
    if (lane == 0) {
      scratch[2 * token] = most;
      scratch[2 * token + 1] = scale;
    }
    const std::int32_t* routes = table.expert + token * p.k;
    const auto probability = [&](int c) {
      return routes[c] >= 0 ? expf(row[routes[c]] - most) * scale : 0.0F;
    };
    for (int c = lane; c < p.k; c += kWarp) chosen += probability(c);
    chosen = warp_sum(chosen);
    const float divisor = p.k == 1 ? 1.0F : fmaxf(chosen, FLT_EPSILON);
    for (int c = lane; c < p.k; c += kWarp) {
      p.weight[token * p.k + c] = probability(c) / divisor;
      p.expert[token * p.k + c] = p.here(routes[c]);
    }
  }
  __syncthreads();
  const int step = p.k == 2 ? 2 : 1;  // with two choices only the first counts for the balance
  for (int e = thread; e < p.experts; e += kFewThreads) {
    float probability = 0;
    int count = 0;
    for (int t = p.own_begin; t < p.own_end; ++t) {
      probability += expf(logits[t * pitch + e] - scratch[2 * t]) * scratch[2 * t + 1];
    }
    for (int r = p.own_begin * p.k; r < p.own_end * p.k; r += step)
      count += table.expert[r] == e ? 1 : 0;
    p.stats[e] = static_cast<float>(count);
    p.stats[p.experts + e] = probability;
  }
}

// Bytes of experts' second matrices that the second-level cache keeps until they are used.
constexpr std::int64_t kAheadBytes = std::int64_t{24} << 20;

struct UpFinish {
  const UpTask& p;
  const RouteTable& table;
  // The second matrices of the chosen experts, if they are few: every block a part of each.
  __device__ void begun(int blocks) const {
    const int expert = static_cast<int>(threadIdx.x);
    if (p.down == nullptr || expert >= p.held) return;
    if (table.first[expert + 1] == table.first[expert]) return;
    if (kAheadBytes < std::int64_t{p.down_bytes} * table.parts_before[p.held]) return;
    const auto part = static_cast<std::uint32_t>(ceil_div(p.down_bytes, 128 * blocks)) * 128;
    const std::uint32_t from = part * blockIdx.x;
    if (from >= p.down_bytes) return;
    const auto* matrix =
        reinterpret_cast<const unsigned char*>(p.down) + std::int64_t{p.down_bytes} * expert;
    prefetch_bulk(matrix + from, min(part, p.down_bytes - from));
  }
  template <class Item>
  __device__ float prepare(const Item& at, int column) const {
    return to_float(p.up_bias[static_cast<std::int64_t>(at.expert) * p.ffn + column]);
  }
  template <class Item>
  __device__ void put(const Item&, int route, int column, float sum, float bias) const {
    p.hidden[static_cast<std::int64_t>(route) * p.ffn + column] =
        from_float<Bf16>(gelu(sum + bias));
  }
};

template <int kTiles, int kGroups, int kTeam>
__global__ void __launch_bounds__(kFewThreads) experts_up_kernel(UpTask task, StreamTask stream) {
  using Memory = UpMemory<kTiles, kGroups>;
  extern __shared__ __align__(128) unsigned char memory[];
  launch_dependents();
  auto* logits = reinterpret_cast<float*>(memory);
  auto& table = *reinterpret_cast<RouteTable*>(memory + Memory::kTable);
  wait_for_predecessors();
  fetch_logits(task, logits);
  __syncthreads();
  choose_experts<kGroups == 1 ? kWarp : 4>(task, logits, table);
  __syncthreads();
  if (blockIdx.x + 1 == gridDim.x) {
    return write_routes(task, logits, table, reinterpret_cast<float*>(memory + Memory::kScratch));
  }
  if (task.held < task.experts) {
    for (int r = static_cast<int>(threadIdx.x); r < task.tokens * task.k; r += kFewThreads) {
      table.expert[r] = task.here(table.expert[r]);
    }
    __syncthreads();
  }
  build_table(table, task.tokens * task.k, task.held, kGroups * kTileRows);
  stream_items<kTiles, kGroups, kTeam>(stream, table, memory, static_cast<int>(gridDim.x) - 1,
                                       UpFinish{task, table});
}

template <int kTiles, int kGroups, int kTeam>
void start_team(const Queue& queue, const UpTask& task) {
  const StreamTask stream{.rows = task.n,
                          .weights = task.up,
                          .columns = task.ffn,
                          .depth = task.width,
                          .experts = task.held,
                          .divisor = task.k,
                          .tiles = static_cast<int>(ceil_div(task.ffn, kTiles * kTileRows))};
  const std::int64_t items = static_cast<std::int64_t>(task.tokens) * task.k * stream.tiles;
  // Two blocks of many rows do not fit one multiprocessor: the last block takes one for itself.
  const std::int64_t workers = context_of(queue).multiprocessors - (kGroups > 1 ? 1 : 0);
  launch_early(queue,
               {.grid = dim3(static_cast<unsigned>(1 + (items < workers ? items : workers))),
                .block = dim3(kFewThreads),
                .shared_bytes = UpMemory<kTiles, kGroups>::kBytes,
                .name = "few_experts_up"},
               experts_up_kernel<kTiles, kGroups, kTeam>, task, stream);
}

template <int kTiles, int kGroups>
void start(const Queue& queue, const UpTask& task) {
  with_team(ceil_div(task.width, kChunk),
            [&]<int kTeam> { start_team<kTiles, kGroups, kTeam>(queue, task); });
}

}  // namespace

void few_experts_up(const Queue& queue, const FewExpertsUp& s, const FewExpertsUpOperands& o) {
  expect(queue.dtype == Dtype::Bf16 && suits_few_experts(s.tokens, s.experts, s.k, s.hidden),
         "few_experts_up", "CUDA takes bf16 and sizes within those of core/base/few_rows.h");
  const std::int64_t down_bytes = 2 * s.hidden * s.ffn;
  const bool ahead =
      s.tokens * s.k <= kTileRows && down_bytes <= kAheadBytes && down_bytes % 16 == 0;
  const UpTask task{.n = static_cast<const Bf16*>(o.n),
                    .logits = static_cast<const float*>(o.logits),
                    .used = o.used,
                    .up = static_cast<const Bf16*>(o.up),
                    .up_bias = static_cast<const Bf16*>(o.up_bias),
                    .hidden = static_cast<Bf16*>(o.hidden),
                    .expert = o.expert,
                    .weight = static_cast<float*>(o.weight),
                    .stats = static_cast<float*>(o.stats),
                    .down = ahead ? static_cast<const Bf16*>(o.down) : nullptr,
                    .down_bytes = static_cast<std::uint32_t>(ahead ? down_bytes : 0),
                    .tokens = static_cast<int>(s.tokens),
                    .experts = static_cast<int>(s.experts),
                    .k = static_cast<int>(s.k),
                    .width = static_cast<int>(s.hidden),
                    .ffn = static_cast<int>(s.ffn),
                    .first_expert = static_cast<int>(s.first_expert),
                    .held = static_cast<int>(s.held()),
                    .own_begin = static_cast<int>(std::min(s.own_begin, s.tokens)),
                    .own_end = static_cast<int>(std::min(s.own_end, s.tokens))};
  const int multiprocessors = context_of(queue).multiprocessors;
  if (s.tokens > kTileRows) return start<4, 2>(queue, task);
  return choose_tiles(s.ffn, multiprocessors, 3, 4) == 4 ? start<4, 1>(queue, task)
                                                         : start<3, 1>(queue, task);
}

}  // namespace imhotep::kernels::cuda
