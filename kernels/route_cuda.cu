// Routing. The first kernel reads the logits once and writes probabilities, choices and weights;
// without a capacity limit and slots that is all but the statistics.
//
// Thread mapping: a group of 8 to 32 lanes takes a token (expert_row.cuh), the groups of a block
// take neighbouring tokens, a block a run of tokens; the next row is loaded before this one is
// worked on. Each lane keeps the probability sums of its experts in registers; blocks add them up
// in shared memory and leave partial sums, which a second kernel adds in the order of the blocks.
// A few tokens fit one block, which then writes the statistics itself.
//
// Experts are compared by their logits, never by rounded probabilities.

#include "kernels/expert_row.cuh"
#include "kernels/route_cuda.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kLoneTokens = 4;     // a group of a lone block takes, before more blocks are worth it
constexpr int kBlocksOfAUnit = 2;  // of 512 threads, on a multiprocessor

struct ChooseTask {
  const float* logits = nullptr;
  const std::int32_t* used = nullptr;
  const double* noise = nullptr;
  float* probs = nullptr;
  std::int32_t* expert = nullptr;
  float* weight = nullptr;
  float* stats = nullptr;               // by a lone block
  std::int32_t* exp_counts = nullptr;   // the same
  float* part_sums = nullptr;           // [blocks, experts]
  std::int32_t* part_counts = nullptr;  // [blocks, 2, experts]: first choices, all choices
  std::int64_t tokens = 0, tokens_per_block = 0;
  int experts = 0, k = 1;
  bool vector = false;
};

// Larger keys for larger numbers; 0 is smaller than all.
__device__ unsigned key_of(float x) {
  const unsigned bits = __float_as_uint(x + 0.0F);  // -0 equals +0
  return max((bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U, 1U);
}
__device__ float number_of(unsigned key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key & 0x7fffffffU : ~key);
}

struct Choice {
  int expert;
  unsigned key;
};
// The largest key of the group; the lower expert where equal.
template <class Row>
__device__ Choice pick(const unsigned (&key)[Row::kValues]) {
  unsigned best = 0;
  int at = 0;
#pragma unroll
  for (int v = 0; v < Row::kValues; ++v) {
    at = key[v] > best ? Row::expert(v) : at;
    best = max(best, key[v]);
  }
  const unsigned high = Row::max_of(best);
  const unsigned lowest = Row::min_of(best == high ? static_cast<unsigned>(at) : 0xffffffffU);
  return {static_cast<int>(lowest), high};
}

// Keys of logits + noise, `excluded` and columns beyond the experts apart.
template <class Row>
__device__ void noisy_keys(const ChooseTask& task, std::int64_t t, int excluded,
                           unsigned (&key)[Row::kValues]) {
  const std::int64_t row = t * task.experts;
#pragma unroll
  for (int v = 0; v < Row::kValues; ++v) {
    const int e = Row::expert(v);
    const bool counts = t < task.tokens && e < task.experts && e != excluded;
    key[v] = counts ? key_of(task.logits[row + e] + static_cast<float>(task.noise[row + e])) : 0;
  }
}

// value: logits -> probabilities, `high` is the largest logit.
template <class Row>
__device__ void softmax(float high, float (&value)[Row::kValues]) {
  float sum = 0;
#pragma unroll
  for (int v = 0; v < Row::kValues; ++v) {
    value[v] = expf(value[v] - high);
    sum += value[v];
  }
  const float scale = 1.0F / Row::sum(sum);
#pragma unroll
  for (int v = 0; v < Row::kValues; ++v) value[v] *= scale;
}

// The k choices of token t, their weights if all survive, and their counts.
template <class Row>
__device__ void choose(const ChooseTask& task, std::int64_t t, bool live, Choice first,
                       const float (&probs)[Row::kValues], unsigned (&key)[Row::kValues],
                       int* firsts, int* all) {
  const int lane = Row::lane(), k = task.k;
  const bool takes = live && (task.used == nullptr || task.used[t] != 0);
  std::int32_t* expert = task.expert + t * k;
  float* weight = task.weight + t * k;
  float own = 0, sum = 0;
  int e = first.expert;
  for (int c = 0; c < k; ++c) {
    if (task.noise != nullptr && c == k - 1) {
      noisy_keys<Row>(task, live ? t : task.tokens, c == 0 ? -1 : e, key);
      e = pick<Row>(key).expert;
    } else if (c > 0) {
      e = pick<Row>(key).expert;
    }
#pragma unroll
    for (int v = 0; v < Row::kValues; ++v) key[v] = Row::expert(v) == e ? 0 : key[v];
    const float of_expert = Row::broadcast(probs, e), p = takes ? of_expert : 0;
    sum += p;
    if (c % Row::kLanes == lane) {
      own = p;
      if (live) expert[c] = takes ? e : -1;
      if (live && k > Row::kLanes) weight[c] = p;
    }
    if (takes && lane == 0) {
      if (c == 0) atomicAdd(&firsts[e], 1);
      if (k > 1) atomicAdd(&all[e], 1);
    }
  }
  const float divisor = k == 1 ? 1.0F : fmaxf(sum, kRouteEpsilon);
  if (!live) return;
  if (k <= Row::kLanes) {
    if (lane < k) weight[lane] = own / divisor;
  } else {
    for (int c = lane; c < k; c += Row::kLanes) weight[c] /= divisor;  // this lane wrote them
  }
}

// Adds up the groups of a block and writes its share of the statistics.
template <class Row>
__device__ void reduce_block(const ChooseTask& task, float (&sums)[Row::kValues], float* shared,
                             const int* firsts, const int* all) {
  const int thread = threadIdx.x, warp = thread / kWarp, warps = blockDim.x / kWarp;
#pragma unroll
  for (int step = Row::kLanes; step < kWarp; step *= 2) {
#pragma unroll
    for (int v = 0; v < Row::kValues; ++v) {
      sums[v] += __shfl_xor_sync(0xffffffffU, sums[v], step);
    }
  }
  if (thread % kWarp < Row::kLanes) {
#pragma unroll
    for (int v = 0; v < Row::kValues; ++v) shared[warp * Row::kColumns + Row::expert(v)] = sums[v];
  }
  __syncthreads();
  const int experts = task.experts;
  for (int e = thread; e < experts; e += blockDim.x) {
    float sum = 0;
#pragma unroll 8
    for (int w = 0; w < warps; ++w) sum += shared[w * Row::kColumns + e];
    const int first = firsts[e], every = task.k == 1 ? first : all[e];
    if (gridDim.x == 1) {
      task.stats[e] = static_cast<float>(task.k > 2 ? every : first);
      task.stats[experts + e] = sum;
      if (task.exp_counts != nullptr) task.exp_counts[e] = every;
    } else {
      const std::int64_t block = blockIdx.x;
      task.part_sums[block * experts + e] = sum;
      task.part_counts[block * 2 * experts + e] = first;
      task.part_counts[(block * 2 + 1) * experts + e] = every;
    }
  }
}

template <class Row>
__global__ void __launch_bounds__(Row::kThreads) choose_experts(ChooseTask task) {
  extern __shared__ float shared[];  // sums [warps, columns], counts [2, experts]
  const int thread = threadIdx.x, warps = blockDim.x / kWarp, groups = blockDim.x / Row::kLanes;
  int* firsts = reinterpret_cast<int*>(shared + warps * Row::kColumns);
  int* all = firsts + task.experts;
  for (int i = thread; i < 2 * task.experts; i += blockDim.x) firsts[i] = 0;
  wait_for_previous();
  __syncthreads();
  const std::int64_t begin = blockIdx.x * task.tokens_per_block;
  const std::int64_t end = min(begin + task.tokens_per_block, task.tokens);
  const auto load = [&](std::int64_t t, float(&value)[Row::kValues]) {
    const int held = t < end ? task.experts : 0;
    Row::load(task.logits + t * task.experts, held, task.vector, -INFINITY, value);
  };
  float sums[Row::kValues] = {}, next[Row::kValues];
  std::int64_t t = begin + thread / Row::kLanes;
  load(t, next);
  for (std::int64_t first = begin; first < end; first += groups, t += groups) {
    const bool live = t < end;
    float value[Row::kValues];
    unsigned key[Row::kValues];
#pragma unroll
    for (int v = 0; v < Row::kValues; ++v) {
      value[v] = next[v];
      key[v] = live && Row::expert(v) < task.experts ? key_of(value[v]) : 0;
    }
    load(t + groups, next);
    const Choice choice = pick<Row>(key);
    softmax<Row>(number_of(choice.key), value);
    if (live) {
      Row::store(task.probs + t * task.experts, task.experts, task.vector, value);
#pragma unroll
      for (int v = 0; v < Row::kValues; ++v) sums[v] += value[v];
    }
    choose<Row>(task, t, live, choice, value, key, firsts, all);
  }
  reduce_block<Row>(task, sums, shared, firsts, all);
}

// 32 experts a block: column x of 32 rows of partial sums, then a warp an expert.
__global__ void __launch_bounds__(1024) finish_stats(ChooseTask task, int blocks) {
  __shared__ double sums[kWarp][kWarp + 1];
  __shared__ int counts[2][kWarp][kWarp + 1];
  wait_for_previous();
  const int x = threadIdx.x % kWarp, y = threadIdx.x / kWarp, experts = task.experts;
  const int e = blockIdx.x * kWarp + x;
  double sum = 0;
  int first = 0, every = 0;
  if (e < experts) {
#pragma unroll 4
    for (int b = y; b < blocks; b += kWarp) {
      const std::int64_t block = b;
      sum += static_cast<double>(task.part_sums[block * experts + e]);
      first += task.part_counts[block * 2 * experts + e];
      every += task.part_counts[(block * 2 + 1) * experts + e];
    }
  }
  sums[y][x] = sum;
  counts[0][y][x] = first;
  counts[1][y][x] = every;
  __syncthreads();
  const int mine = blockIdx.x * kWarp + y;
  sum = warp_sum(sums[x][y]);
  first = __reduce_add_sync(0xffffffffU, counts[0][x][y]);
  every = __reduce_add_sync(0xffffffffU, counts[1][x][y]);
  if (x != 0 || mine >= experts) return;
  task.stats[mine] = static_cast<float>(task.k > 2 ? every : first);
  task.stats[experts + mine] = static_cast<float>(sum);
  if (task.exp_counts != nullptr) task.exp_counts[mine] = every;
}

template <class Row>
void choose_rows(const Queue& queue, ChooseTask task) {
  const std::int64_t tokens = task.tokens;
  std::int64_t threads = ceil_div(tokens * Row::kLanes, kWarp) * kWarp, blocks = 1;
  if (tokens * Row::kLanes > std::int64_t{kLoneTokens} * Row::kThreads) {
    threads = std::min(512, Row::kThreads);
    blocks = std::min(ceil_div(tokens * Row::kLanes, threads),
                      std::int64_t{kBlocksOfAUnit} * context_of(queue).multiprocessors);
  }
  threads = std::clamp<std::int64_t>(threads, 128, Row::kThreads);
  task.tokens_per_block = ceil_div(tokens, blocks);
  blocks =
      std::max<std::int64_t>(1, ceil_div(tokens, std::max<std::int64_t>(1, task.tokens_per_block)));
  task.part_sums = static_cast<float*>(queue.workspace);
  task.part_counts = reinterpret_cast<std::int32_t*>(task.part_sums + blocks * task.experts);
  expect(blocks * task.experts * 12 <= queue.workspace_bytes, "route",
         "the workspace is too small");
  const std::int64_t cells = threads / kWarp * Row::kColumns + 2 * task.experts;
  launch_next(queue,
              {.name = "launch route: choices",
               .blocks = blocks,
               .threads = static_cast<int>(threads),
               .shared_bytes = sizeof(float) * static_cast<std::size_t>(cells)},
              choose_experts<Row>, task);
  if (blocks == 1) return;
  launch_next(queue,
              {.name = "launch route: statistics",
               .blocks = ceil_div(task.experts, kWarp),
               .threads = 1024},
              finish_stats, task, static_cast<int>(blocks));
}

}  // namespace

void route(const Queue& queue, const Route& shape, const RouteOperands& operands) {
  const ChooseTask task{.logits = static_cast<const float*>(operands.logits),
                        .used = operands.used,
                        .noise = operands.noise,
                        .probs = static_cast<float*>(operands.probs),
                        .expert = operands.expert,
                        .weight = static_cast<float*>(operands.weight),
                        .stats = static_cast<float*>(operands.stats),
                        .exp_counts = operands.exp_counts,
                        .tokens = shape.tokens,
                        .experts = static_cast<int>(shape.experts),
                        .k = static_cast<int>(shape.k),
                        .vector = rows_align(shape.experts, operands.logits, operands.probs)};
  by_experts(shape.experts,
             [&](auto row) { choose_rows<std::decay_t<decltype(row)>>(queue, task); });
  place_routes(queue, shape, operands);
}

}  // namespace imhotep::kernels::cuda
