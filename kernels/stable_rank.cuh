#pragma once
// Counting sort by expert, stable: every item learns its place among the items of its expert, in
// the order of the items, and where the rows of every expert start. Routing tables, groups of
// routes and slots are all made by it.
//
// Thread mapping: a block takes a run of items, tile by tile, one item a thread. Inside a warp
// match_any gives the place; a table [warps][experts] in shared memory carries it over the warps.
// Few items: one block does everything. More: a first kernel counts by block, and each block of
// the second sums the counts of those before it (a warp an expert).
//
// An Items type has
//   int expert(int64 i)                          expert of item i, -1 = takes no place
//   int at(int q)                                the expert whose rows are the q-th in order
//   void put(int64 i, int e, int place, const int* first)
//   void put_none(int64 i)                       for items without an expert
//   void layout(const int* total, const int* first)   called once, by all threads of one block
// where total[e] counts the items of expert e and first[q] those of experts ordered before q.

#include <algorithm>

#include "kernels/route.h"
#include "kernels/routing_launch.cuh"

namespace imhotep::kernels::cuda {

inline constexpr int kRankBlocks = 128;  // four loads a lane sum an expert's counts over blocks
inline constexpr int kLoneTiles = 4;     // a second kernel costs more than so many tiles
inline constexpr int kScanStep = 8;      // counts loaded together
inline constexpr std::int64_t kRankBytes = kMaxExperts * kRankBlocks * 4;  // workspace

struct RankPlan {
  std::int64_t items = 0, items_per_block = 0;
  int experts = 0, blocks = 1;
  std::int32_t* block_counts = nullptr;  // [experts, kRankBlocks]; unused by one block
};

template <class Items>
__global__ void __launch_bounds__(512) count_by_block(Items items, RankPlan plan) {
  extern __shared__ int counts[];
  wait_for_previous();
  for (int e = threadIdx.x; e < plan.experts; e += blockDim.x) counts[e] = 0;
  __syncthreads();
  const std::int64_t begin = blockIdx.x * plan.items_per_block;
  const std::int64_t end = min(begin + plan.items_per_block, plan.items);
  for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const int e = items.expert(i);
    if (e >= 0) atomicAdd(&counts[e], 1);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < plan.experts; e += blockDim.x) {
    plan.block_counts[e * kRankBlocks + blockIdx.x] = counts[e];
  }
}

// Shared memory of rank_items, in this order.
struct RankTables {
  int* first;  // [experts + 1]
  int* total;  // [experts]
  int* next;   // [experts]: place of the next item
  int* base;   // [warps, experts]: a warp's counts in this tile, then its first places

  __device__ RankTables(int* shared, int experts)
      : first(shared), total(first + experts + 1), next(total + experts), base(next + experts) {}
};

struct WarpMatch {
  unsigned peers;  // lanes of the same expert
  int place;       // this lane's among them
};
__device__ inline WarpMatch match_expert(int expert) {
  const unsigned peers = __match_any_sync(0xffffffffU, expert);
  const unsigned below = (1U << (threadIdx.x % kWarp)) - 1U;
  return {peers, __popc(peers & below)};
}

// total and next of a block that is alone.
template <class Items>
__device__ void count_alone(const Items& items, const RankPlan& plan, int own,
                            const WarpMatch& own_match, int* total) {
  for (std::int64_t tile = 0; tile < plan.items; tile += blockDim.x) {
    const std::int64_t i = tile + threadIdx.x;
    const int e = tile == 0 ? own : (i < plan.items ? items.expert(i) : -1);
    const WarpMatch match = tile == 0 ? own_match : match_expert(e);
    if (e >= 0 && match.place == 0) atomicAdd(&total[e], __popc(match.peers));
  }
}

// The same from the counts of all blocks; a warp loads those of several experts at once.
__device__ inline void sum_blocks(const RankPlan& plan, int* total, int* next) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  for (int first = warp * kScanStep; first < plan.experts; first += warps * kScanStep) {
    int all[kScanStep] = {}, before[kScanStep] = {};
    for (int b = lane; b < plan.blocks; b += kWarp) {
      const bool earlier = b < static_cast<int>(blockIdx.x);
#pragma unroll
      for (int j = 0; j < kScanStep; ++j) {
        const int e = min(first + j, plan.experts - 1);
        const int count = plan.block_counts[e * kRankBlocks + b];
        all[j] += count;
        before[j] += earlier ? count : 0;
      }
    }
#pragma unroll
    for (int j = 0; j < kScanStep; ++j) {
      const int sum = __reduce_add_sync(0xffffffffU, all[j]);
      const int sum_before = __reduce_add_sync(0xffffffffU, before[j]);
      if (lane == 0 && first + j < plan.experts) {
        total[first + j] = sum;
        next[first + j] = sum_before;
      }
    }
  }
}

// first = exclusive scan of the totals in the order of rows. For one warp.
template <class Items>
__device__ void scan_experts(const Items& items, int experts, const int* total, int* first) {
  const int lane = threadIdx.x % kWarp, chunk = (experts + kWarp - 1) / kWarp;
  const int begin = min(lane * chunk, experts), end = min(begin + chunk, experts);
  int sum = 0;
  for (int q = begin; q < end; ++q) sum += total[items.at(q)];
  int before = sum;
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffU, before, step);
    if (lane >= step) before += other;
  }
  if (lane == kWarp - 1) first[experts] = before;
  before -= sum;
  for (int q = begin; q < end; ++q) {
    first[q] = before;
    before += total[items.at(q)];
  }
}

// Counts of the warps of a tile -> first places of the warps.
__device__ inline void scan_warps(int experts, const RankTables& tables) {
  const int warps = blockDim.x / kWarp;
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int at = tables.next[e];
    for (int w = 0; w < warps; w += kScanStep) {
      int count[kScanStep];
#pragma unroll
      for (int j = 0; j < kScanStep; ++j) count[j] = tables.base[(w + j) * experts + e];
#pragma unroll
      for (int j = 0; j < kScanStep; ++j) {
        tables.base[(w + j) * experts + e] = at;
        at += count[j];
      }
    }
    tables.next[e] = at;
  }
}

// Requires: blockDim.x is a multiple of kWarp * kScanStep.
template <class Items>
__global__ void __launch_bounds__(1024) rank_items(Items items, RankPlan plan) {
  extern __shared__ int shared[];
  const RankTables tables(shared, plan.experts);
  const int warp = threadIdx.x / kWarp;
  const int cells = (static_cast<int>(blockDim.x) / kWarp + 2) * plan.experts;
  for (int j = threadIdx.x; j < cells; j += blockDim.x) tables.total[j] = 0;
  wait_for_previous();
  const std::int64_t begin = blockIdx.x * plan.items_per_block;
  const std::int64_t end = min(begin + plan.items_per_block, plan.items);
  const int own = begin + threadIdx.x < end ? items.expert(begin + threadIdx.x) : -1;
  const WarpMatch own_match = match_expert(own);
  __syncthreads();
  if (plan.blocks == 1) {
    count_alone(items, plan, own, own_match, tables.total);
  } else {
    sum_blocks(plan, tables.total, tables.next);
  }
  __syncthreads();
  if (warp == 0) scan_experts(items, plan.experts, tables.total, tables.first);
  __syncthreads();
  if (blockIdx.x == 0) items.layout(tables.total, tables.first);
  for (std::int64_t tile = begin; tile < end; tile += blockDim.x) {
    const std::int64_t i = tile + threadIdx.x;
    const int e = tile == begin ? own : (i < end ? items.expert(i) : -1);
    const WarpMatch match = tile == begin ? own_match : match_expert(e);
    int* mine = tables.base + warp * plan.experts + e;
    if (e >= 0 && match.place == 0) *mine = __popc(match.peers);
    __syncthreads();
    scan_warps(plan.experts, tables);
    __syncthreads();
    if (e >= 0) {
      items.put(i, e, *mine + match.place, tables.first);
    } else if (i < end) {
      items.put_none(i);
    }
    if (tile + blockDim.x >= end) break;
    __syncthreads();
    const int counts = static_cast<int>(blockDim.x) / kWarp * plan.experts;
    for (int j = threadIdx.x; j < counts; j += blockDim.x) tables.base[j] = 0;
    __syncthreads();
  }
}

// Ranks items [0, n). `workspace`: kRankBytes of device memory until the work is done.
template <class Items>
void rank_stably(const Queue& queue, const Items& items, std::int64_t n, int experts,
                 void* workspace) {
  // The table of warps stays within 48 KiB of shared memory.
  const bool wide = experts > 256;
  RankPlan plan{.items = n,
                .items_per_block = n,
                .experts = experts,
                .block_counts = static_cast<std::int32_t*>(workspace)};
  int threads = wide || n <= 256 ? 256 : (n <= 512 ? 512 : 1024);
  if (n > std::int64_t{kLoneTiles} * threads) {
    threads = wide ? 256 : 512;
    const std::int64_t blocks = std::min(ceil_div(n, threads), std::int64_t{kRankBlocks});
    plan.items_per_block = ceil_div(ceil_div(n, blocks), threads) * threads;
    plan.blocks = static_cast<int>(ceil_div(n, plan.items_per_block));
    launch_next(queue,
                {.name = "launch counts of blocks",
                 .blocks = plan.blocks,
                 .threads = threads,
                 .shared_bytes = sizeof(int) * static_cast<std::size_t>(experts)},
                count_by_block<Items>, items, plan);
  }
  const int cells = (threads / kWarp + 3) * experts + 1;
  launch_next(queue,
              {.name = "launch stable ranks",
               .blocks = plan.blocks,
               .threads = threads,
               .shared_bytes = sizeof(int) * static_cast<std::size_t>(cells)},
              rank_items<Items>, items, plan);
}

}  // namespace imhotep::kernels::cuda
