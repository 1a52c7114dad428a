#pragma once
// Routes of a decode step in shared memory, for the kernels of few_experts: which routes an expert
// has, in order, cut into parts of a few rows. Every block builds the table for itself, which
// costs less than a kernel that does it once.
// Only for few_experts_*_cuda.cu.

#include "kernels/few_experts.h"
#include "kernels/few_rows_body.cuh"

namespace imhotep::kernels::cuda {

struct RouteTable {
  std::int32_t expert[kFewRoutes];             // of a route, -1 = none
  std::int32_t order[kFewRoutes];              // routes by expert, then by number
  std::int32_t first[kFewExperts + 1];         // place in `order` of an expert's first route
  std::int32_t parts_before[kFewExperts + 1];  // parts of all experts before this one
  std::int32_t counts[kFewExperts];
  std::uint8_t expert_of_part[kFewRoutes];
};

// Exclusive sums over experts of counts and parts, by one warp.
__device__ inline void sum_counts(RouteTable& table, int experts, int part_rows) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int rows = 0, parts = 0;
  for (int base = 0; base < experts; base += kWarp) {
    const int e = base + lane;
    const int own_rows = e < experts ? table.counts[e] : 0;
    const int own_parts = (own_rows + part_rows - 1) / part_rows;
    int sum_rows = own_rows, sum_parts = own_parts;
    for (int step = 1; step < kWarp; step *= 2) {
      const int before_rows = __shfl_up_sync(0xffffffffU, sum_rows, step);
      const int before_parts = __shfl_up_sync(0xffffffffU, sum_parts, step);
      if (lane >= step) {
        sum_rows += before_rows;
        sum_parts += before_parts;
      }
    }
    if (e < experts) {
      table.first[e] = rows + sum_rows - own_rows;
      const int before = parts + sum_parts - own_parts;
      table.parts_before[e] = before;
      for (int i = 0; i < own_parts; ++i) {
        table.expert_of_part[before + i] = static_cast<std::uint8_t>(e);
      }
    }
    rows += __shfl_sync(0xffffffffU, sum_rows, kWarp - 1);
    parts += __shfl_sync(0xffffffffU, sum_parts, kWarp - 1);
  }
  if (lane == 0) {
    table.first[experts] = rows;
    table.parts_before[experts] = parts;
  }
}

// The same table for at most 8 routes, by counting: one barrier instead of five, and no scan.
// Parts are of 8 rows or more, so that each expert has one.
__device__ inline void build_small_table(RouteTable& table, int routes, int experts) {
  const int thread = static_cast<int>(threadIdx.x);
  int of[kTileRows];
  bool leads[kTileRows];  // the first route of its expert
#pragma unroll
  for (int r = 0; r < kTileRows; ++r) {
    of[r] = r < routes ? table.expert[r] : -1;
    leads[r] = of[r] >= 0;
#pragma unroll
    for (int q = 0; q < r; ++q) leads[r] = leads[r] && of[q] != of[r];
  }
  const auto parts_before = [&](int expert) {
    int parts = 0;
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) parts += leads[r] && of[r] < expert ? 1 : 0;
    return parts;
  };
  for (int e = thread; e <= experts; e += kFewThreads) {
    int rows = 0;
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) rows += of[r] >= 0 && of[r] < e ? 1 : 0;
    table.first[e] = rows;
    table.parts_before[e] = parts_before(e);
  }
  if (thread < routes && table.expert[thread] >= 0) {
    const int expert = table.expert[thread];
    int place = 0, same = 0;
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) {
      place += of[r] >= 0 && of[r] < expert ? 1 : 0;
      same += of[r] == expert && r < thread ? 1 : 0;
    }
    table.order[place + same] = thread;
    if (same == 0) {
      table.expert_of_part[parts_before(expert)] = static_cast<std::uint8_t>(expert);
    }
  }
  __syncthreads();
}

// From table.expert, which all threads have written. Requires: a barrier since. Ends with one.
__device__ inline void build_table(RouteTable& table, int routes, int experts,
                                   int part_rows = kTileRows) {
  if (routes <= kTileRows) return build_small_table(table, routes, experts);
  const int thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < experts; e += kFewThreads) table.counts[e] = 0;
  __syncthreads();
  constexpr int kEach = static_cast<int>(kFewRoutes) / kFewThreads;
  int place[kEach] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int route = thread + i * kFewThreads;
    if (route >= routes || table.expert[route] < 0) continue;
    const int expert = table.expert[route];
    for (int r = 0; r < route; ++r) place[i] += table.expert[r] == expert ? 1 : 0;
    atomicAdd(&table.counts[expert], 1);
  }
  __syncthreads();
  if (thread < kWarp) sum_counts(table, experts, part_rows);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int route = thread + i * kFewThreads;
    if (route >= routes || table.expert[route] < 0) continue;
    table.order[table.first[table.expert[route]] + place[i]] = route;
  }
  __syncthreads();
}

}  // namespace imhotep::kernels::cuda
