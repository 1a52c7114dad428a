// Capacity and slots. Routes are grouped by expert (stable_rank.cuh), one block an expert finds the
// capacity-th largest score by radix selection, eight bits a pass, and drops what is below; among
// equal scores the earlier routes stay, which an ordered pass over the group finds. Slots are the
// stable ranks of the survivors. Keys and groups live in the workspace.

#include "core/base/random.h"
#include "kernels/route_cuda.cuh"
#include "kernels/stable_rank.cuh"

namespace imhotep::kernels::cuda {
namespace {

using Key = unsigned long long;  // larger keys survive

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
constexpr int kSelectThreads = 512;
constexpr int kWeightThreads = 256;

// ---- groups of routes with their scores

struct ScoredRoutes {
  const std::int32_t* experts = nullptr;  // [T, k]
  const float* probs = nullptr;           // Probability
  const double* uniform = nullptr;        // Random, given draws
  Key draw_key = 0;                       // Random, hashed draws
  std::int64_t token_base = 0;
  int k = 1, columns = 1;
  bool random = false;
  Key* keys = nullptr;              // [routes], grouped by expert
  std::int32_t* grouped = nullptr;  // [routes]
  std::int32_t* starts = nullptr;   // [experts + 1]

  __device__ int expert(std::int64_t i) const { return experts[i]; }
  __device__ int at(int q) const { return q; }
  __device__ Key score(std::int64_t i, int e) const {
    const std::int64_t t = i / k;
    if (!random) {
      const unsigned bits = __float_as_uint(probs[t * columns + e]);  // not negative
      return static_cast<Key>(bits) << 32;
    }
    if (uniform != nullptr) {
      const auto bits = static_cast<Key>(__double_as_longlong(uniform[t * columns + e] + 0.0));
      return (bits >> 63) != 0 ? ~bits : bits | Key{1} << 63;
    }
    // The 53 bits that uniform() turns into a number: the same order.
    return hash(draw_key, static_cast<std::uint64_t>(token_base + t),
                static_cast<std::uint64_t>(e)) >>
           11 << 11;
  }
  __device__ void put(std::int64_t i, int e, int place, const int* first) const {
    const int row = first[e] + place;
    grouped[row] = static_cast<std::int32_t>(i);
    keys[row] = score(i, e);
  }
  __device__ void put_none(std::int64_t) const {}
  __device__ void layout(const int*, const int* first) const {
    for (int e = threadIdx.x; e <= columns; e += blockDim.x) starts[e] = first[e];
  }
};

// ---- selection

// The digit whose bucket holds the `need`-th largest, and how many are in buckets above it.
struct Bucket {
  int digit, above, held;
};
__device__ Bucket find_bucket(const int* counts, int need) {  // by one warp
  constexpr int kEach = kDigits / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, top = kDigits - 1 - lane * kEach;
  int sum = 0;
#pragma unroll
  for (int j = 0; j < kEach; ++j) sum += counts[top - j];
  int through = sum;
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffU, through, step);
    if (lane >= step) through += other;
  }
  const unsigned reached = __ballot_sync(0xffffffffU, through >= need);
  const int owner = __ffs(static_cast<int>(reached)) - 1;
  Bucket found{0, through - sum, 0};
  for (int j = 0; j < kEach; ++j) {
    found.digit = top - j;
    found.held = counts[top - j];
    if (found.above + found.held >= need) break;
    found.above += found.held;
  }
  return {__shfl_sync(0xffffffffU, found.digit, owner),
          __shfl_sync(0xffffffffU, found.above, owner),
          __shfl_sync(0xffffffffU, found.held, owner)};
}

struct Threshold {
  Key mask = 0, prefix = 0;  // (key & mask) > prefix survives
  int need = 0;              // of those with (key & mask) == prefix, the first so many survive
  bool all = false;          // that is all of them
};

__device__ Threshold find_threshold(const Key* keys, int n, int capacity) {
  __shared__ int counts[kDigits];
  __shared__ Bucket bucket;
  Threshold at{.need = capacity};
  for (int shift = 64 - kDigitBits; shift >= 0 && !at.all; shift -= kDigitBits) {
    for (int d = threadIdx.x; d < kDigits; d += blockDim.x) counts[d] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
      const Key key = keys[i];
      if ((key & at.mask) == at.prefix) atomicAdd(&counts[(key >> shift) & (kDigits - 1)], 1);
    }
    __syncthreads();
    if (threadIdx.x < kWarp) {
      const Bucket found = find_bucket(counts, at.need);
      if (threadIdx.x == 0) bucket = found;
    }
    __syncthreads();
    at.need -= bucket.above;
    at.prefix |= static_cast<Key>(bucket.digit) << shift;
    at.mask |= static_cast<Key>(kDigits - 1) << shift;
    at.all = bucket.held == at.need;
    __syncthreads();  // bucket and counts are read
  }
  return at;
}

// Exclusive count of `flag` over the block, in thread order; total: over the whole block.
__device__ int ordered_count(bool flag, int& total) {
  __shared__ int warps[kSelectThreads / kWarp];
  const unsigned lanes = __ballot_sync(0xffffffffU, flag);
  const int warp = threadIdx.x / kWarp;
  const unsigned below = (1U << (threadIdx.x % kWarp)) - 1U;
  if (threadIdx.x % kWarp == 0) warps[warp] = __popc(lanes);
  __syncthreads();
  int before = 0;
  total = 0;
  for (int w = 0; w < kSelectThreads / kWarp; ++w) {
    before += w < warp ? warps[w] : 0;
    total += warps[w];
  }
  __syncthreads();
  return before + __popc(lanes & below);
}

struct SelectTask {
  const Key* keys = nullptr;
  const std::int32_t* grouped = nullptr;
  const std::int32_t* starts = nullptr;
  std::int32_t* expert = nullptr;
  std::int64_t capacity = 0;
};

// One block an expert.
__global__ void __launch_bounds__(kSelectThreads) keep_highest(SelectTask task) {
  wait_for_previous();
  const int begin = task.starts[blockIdx.x], n = task.starts[blockIdx.x + 1] - begin;
  if (n <= task.capacity) return;
  const Key* keys = task.keys + begin;
  const std::int32_t* routes = task.grouped + begin;
  const Threshold at = find_threshold(keys, n, static_cast<int>(task.capacity));
  int equals = 0;
  for (int tile = 0; tile < n; tile += kSelectThreads) {
    const int i = tile + static_cast<int>(threadIdx.x);
    const Key key = i < n ? keys[i] & at.mask : 0;
    const bool equal = i < n && key == at.prefix;
    bool keep = i < n && (key > at.prefix || (equal && at.all));
    if (!at.all) {
      int in_tile = 0;
      const int before = ordered_count(equal, in_tile);
      keep = keep || (equal && equals + before < at.need);
      equals += in_tile;
    }
    if (i < n && !keep) task.expert[routes[i]] = -1;
  }
}

// ---- slots and weights

struct SlottedRoutes {
  std::int32_t* experts = nullptr;  // [T, k]
  std::int32_t* slots = nullptr;    // [T, k] or null
  std::int64_t tokens = 0, limit = 0;
  bool firsts_first = false;  // item i is route 2i, then 2(i - T) + 1

  __device__ std::int64_t route(std::int64_t i) const {
    if (!firsts_first) return i;
    return i < tokens ? 2 * i : 2 * (i - tokens) + 1;
  }
  __device__ int expert(std::int64_t i) const { return experts[route(i)]; }
  __device__ int at(int q) const { return q; }
  __device__ void put(std::int64_t i, int, int place, const int*) const {
    const std::int64_t r = route(i);
    const bool fits = place < limit;
    if (!fits) experts[r] = -1;
    if (slots != nullptr) slots[r] = fits ? place : -1;
  }
  __device__ void put_none(std::int64_t i) const {
    if (slots != nullptr) slots[route(i)] = -1;
  }
  __device__ void layout(const int*, const int*) const {}
};

// Weights of the survivors, a token a thread.
__global__ void __launch_bounds__(kWeightThreads)
    write_weights(std::int64_t tokens, int experts, int k, const float* probs,
                  const std::int32_t* expert, float* weight) {
  wait_for_previous();
  const std::int64_t t = std::int64_t{blockIdx.x} * kWeightThreads + threadIdx.x;
  if (t >= tokens) return;
  probs += t * experts;
  expert += t * k;
  weight += t * k;
  float sum = 0;
  for (int c = 0; c < k; ++c) sum += expert[c] >= 0 ? probs[expert[c]] : 0.0F;
  const float divisor = k == 1 ? 1.0F : fmaxf(sum, kRouteEpsilon);
  for (int c = 0; c < k; ++c) weight[c] = expert[c] >= 0 ? probs[expert[c]] / divisor : 0.0F;
}

void drop_by_score(const Queue& queue, const Route& shape, const RouteOperands& operands) {
  const std::int64_t routes = shape.tokens * shape.k;
  auto* memory = static_cast<std::byte*>(queue.workspace);
  auto* keys = reinterpret_cast<Key*>(memory + kRankBytes);
  auto* grouped = reinterpret_cast<std::int32_t*>(keys + routes);
  auto* starts = grouped + routes;
  const std::int64_t bytes = kRankBytes + routes * 12 + (shape.experts + 1) * 4;
  expect(bytes <= queue.workspace_bytes, "route", "the workspace is too small for the routes");
  const RouteContext& context = operands.context;
  const ScoredRoutes scored{.experts = operands.expert,
                            .probs = static_cast<const float*>(operands.probs),
                            .uniform = operands.uniform,
                            .draw_key = hash(context.seed, static_cast<std::uint64_t>(context.step),
                                             static_cast<std::uint64_t>(context.layer)),
                            .token_base = context.token_base,
                            .k = static_cast<int>(shape.k),
                            .columns = static_cast<int>(shape.experts),
                            .random = shape.policy == DropPolicy::Random,
                            .keys = keys,
                            .grouped = grouped,
                            .starts = starts};
  rank_stably(queue, scored, routes, scored.columns, queue.workspace);
  const SelectTask task{.keys = keys,
                        .grouped = grouped,
                        .starts = starts,
                        .expert = operands.expert,
                        .capacity = shape.capacity};
  launch_next(
      queue,
      {.name = "launch route: selection", .blocks = shape.experts, .threads = kSelectThreads},
      keep_highest, task);
}

}  // namespace

void place_routes(const Queue& queue, const Route& shape, const RouteOperands& operands) {
  const bool by_score = shape.capacity > 0 && (shape.policy == DropPolicy::Random ||
                                               shape.policy == DropPolicy::Probability);
  const bool by_place = shape.capacity > 0 && shape.policy == DropPolicy::Position;
  if (by_score) drop_by_score(queue, shape, operands);
  if (by_place || operands.slot != nullptr) {
    const std::int64_t routes = shape.tokens * shape.k;
    const SlottedRoutes slotted{
        .experts = operands.expert,
        .slots = operands.slot,
        .tokens = shape.tokens,
        .limit = by_place ? shape.capacity : routes,
        .firsts_first = shape.k == 2 && shape.policy != DropPolicy::Probability};
    rank_stably(queue, slotted, routes, static_cast<int>(shape.experts), queue.workspace);
  }
  if ((!by_score && !by_place) || shape.tokens == 0) return;
  launch_next(queue,
              {.name = "launch route: weights",
               .blocks = ceil_div(shape.tokens, kWeightThreads),
               .threads = kWeightThreads},
              write_weights, shape.tokens, static_cast<int>(shape.experts),
              static_cast<int>(shape.k), static_cast<const float*>(operands.probs),
              static_cast<const std::int32_t*>(operands.expert),
              static_cast<float*>(operands.weight));
}

}  // namespace imhotep::kernels::cuda
