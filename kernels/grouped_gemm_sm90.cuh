#pragma once
// The parts of the grouped product for compute capability 9.0a: which tile comes next, the ring of
// operand tiles in shared memory, the products of one tile, and its epilogue.
// M is the axis of the weight (128 a tile, 64 a warpgroup), N the axis of the expert's rows (as
// many as there are, to a multiple of 16 up to 256) in Forward and GradInput, so that ragged
// experts waste little; the result is transposed on its way through shared memory. In GradWeight M
// is n, N is k, and the rows are the reduction.

#include "core/base/shapes.h"
#include "kernels/cuda_common.cuh"
#include "kernels/sm90_primitives.cuh"
#include "kernels/sm90_wgmma.cuh"

namespace imhotep::kernels::cuda::sm90 {

inline constexpr int kTileM = 128, kTileN = 256, kTileDepth = 64;
inline constexpr int kBox = 32;    // rows a TMA box holds in Forward, GradInput
inline constexpr int kStages = 4;  // as many as fit
inline constexpr int kBytesA = kTileM * kTileDepth * 2, kBytesB = kTileN * kTileDepth * 2;
inline constexpr int kStageBytes = kBytesA + kBytesB;
inline constexpr int kGroupThreads = 128, kConsumers = 2;
inline constexpr int kThreads = (1 + kConsumers) * kGroupThreads;
inline constexpr int kConsumerWarps = kConsumers * kGroupThreads / kWarp;
inline constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;  // 64512 in all, of 65536
inline constexpr int kMaxExperts = kThreads;  // one thread reads the rows of one expert
inline constexpr int kTileSlots = 2;

struct Product {
  const std::int32_t* offsets = nullptr;
  int experts = 0, bound = 0;
  int m = 0;        // extent of M: n in Forward and GradWeight, k in GradInput
  int columns = 0;  // extent of N in GradWeight: k
  int depth = 0;    // length of the reduction in Forward (k) and GradInput (n)
  Bf16* out = nullptr;
  const Bf16* bias = nullptr;   // Forward; may be null
  bool gelu = false;            // Forward
  Bf16* pre = nullptr;          // Forward with gelu: written unless null
  const Bf16* other = nullptr;  // GradInput: times gelu'(other); GradWeight: plus other; or null
  int* next_item = nullptr;     // 0 before the launch
  FaultRecord* fault = nullptr;
};

struct alignas(16) Tile {
  int expert;  // -1: there are no more
  int first_row, rows, m, column, columns, padding[2];
};
static_assert(sizeof(Tile) == 2 * sizeof(int4));

struct Shared {
  alignas(kAtomBytes) unsigned char stages[kStages][kStageBytes];
  alignas(kAtomBytes) unsigned char staging[kConsumers][2][kBlockBytes];
  Tile tiles[kTileSlots];
  std::uint64_t full[kStages], empty[kStages], tile_full[kTileSlots], tile_empty[kTileSlots];
  int first_item[kMaxExperts + 1];  // of each expert; the last: how many there are
};

// ---- tiles
__device__ inline int round_up(int x, int step) { return (x + step - 1) / step * step; }
// Rows of one tile, so that an expert's tiles are nearly equal.
__device__ inline int tile_rows(int rows) {
  const int tiles = (rows + kTileN - 1) / kTileN;
  return round_up((rows + tiles - 1) / tiles, 16);
}
__device__ inline int first_row_of(const Product& p, int expert) {
  return min(__ldg(p.offsets + expert), p.bound);
}

// kBlocks: how many blocks of a cluster share the N of a tile, each with its own 128 of M.
template <GroupedMode kMode, int kBlocks>
__device__ int items_of(const Product& p, int rows) {
  const int blocks = (p.m + kBlocks * kTileM - 1) / (kBlocks * kTileM);
  if constexpr (kMode == GroupedMode::GradWeight) {
    return rows > 0 || p.other == nullptr ? blocks * ((p.columns + kTileN - 1) / kTileN) : 0;
  } else {
    return rows > 0 ? blocks * ((rows + kTileN - 1) / kTileN) : 0;
  }
}

// Tiles that share a weight follow one another, and so run at the same time on several SMs.
template <GroupedMode kMode, int kBlocks>
__device__ Tile tile_of(const Product& p, const int* first_item, int item) {
  int low = 0, high = p.experts;  // first_item[low] <= item < first_item[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (first_item[middle] <= item ? low : high) = middle;
  }
  const int local = item - first_item[low];
  const int begin = first_row_of(p, low), rows = first_row_of(p, low + 1) - begin;
  if constexpr (kMode == GroupedMode::GradWeight) {
    const int blocks = (p.columns + kTileN - 1) / kTileN;
    const int column = local % blocks * kTileN;
    return {low,          begin,
            max(rows, 0), local / blocks * kBlocks * kTileM,
            column,       min(kTileN, p.columns - column)};
  } else {
    const int height = tile_rows(rows), tiles = (rows + height - 1) / height;
    const int row = local % tiles * height;
    return {low, begin + row, min(height, rows - row), local / tiles * kBlocks * kTileM, 0, 0};
  }
}

// Fills first_item; all threads of the block.
template <GroupedMode kMode, int kBlocks>
__device__ void count_items(const Product& p, int* first_item) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < p.experts) {
    const int rows = first_row_of(p, thread + 1) - first_row_of(p, thread);
    first_item[thread + 1] = items_of<kMode, kBlocks>(p, rows);
  }
  if (thread == 0) {
    first_item[0] = 0;
    const int rows = __ldg(p.offsets + p.experts);
    if (rows > p.bound && blockIdx.x == 0) {
      report_fault(p.fault, Fault::RowsExceedBound, rows, p.bound);
    }
  }
  __syncthreads();
  if (thread < kWarp) {
    int before = 0;
    for (int base = 1; base <= p.experts; base += kWarp) {
      const int e = base + thread;
      int sum = e <= p.experts ? first_item[e] : 0;
      for (int lanes = 1; lanes < kWarp; lanes *= 2) {
        const int left = __shfl_up_sync(0xffffffffU, sum, lanes);
        if (thread >= lanes) sum += left;
      }
      sum += before;
      if (e <= p.experts) first_item[e] = sum;
      before = __shfl_sync(0xffffffffU, sum, kWarp - 1);
    }
  }
  __syncthreads();
}

// ---- the ring
struct Ring {
  std::uint32_t stages, full, empty;  // shared addresses
  std::uint32_t stage = 0, phase = 0;

  __device__ explicit Ring(Shared& shared)
      : stages(shared_address(shared.stages)),
        full(shared_address(shared.full)),
        empty(shared_address(shared.empty)) {}
  __device__ std::uint32_t memory() const { return stages + stage * kStageBytes; }
  __device__ std::uint32_t full_barrier() const { return full + stage * 8; }
  __device__ std::uint32_t empty_barrier() const { return empty + stage * 8; }
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// ---- producer: one thread
template <GroupedMode kMode, int kBlocks>
__device__ void load_tile(const Product& p, const Tile& tile, const CUtensorMap& map_a,
                          const CUtensorMap& map_b, int rank, Ring& ring) {
  constexpr bool kWeight = kMode == GroupedMode::GradWeight;
  const int steps = kWeight ? (tile.rows + kTileDepth - 1) / kTileDepth : p.depth / kTileDepth;
  const int boxes = kWeight ? (tile.columns + 63) / 64 : (tile.rows + kBox - 1) / kBox;
  const std::uint32_t bytes =
      static_cast<std::uint32_t>(kBytesA + boxes * (kWeight ? kBlockBytes : kBox * 128));
  for (int step = 0; step < steps; ++step) {
    barrier_wait<(kBlocks > 1)>(ring.empty_barrier(), ring.phase ^ 1);
    const std::uint32_t full = ring.full_barrier(), a = ring.memory(), b = a + kBytesA;
    barrier_arrive_expect(full, bytes);
    const int at = step * kTileDepth;
    if constexpr (kMode == GroupedMode::Forward) {
      tensor_load(a, map_a, full, at, tile.expert * p.m + tile.m);
    } else {
      const int row = kWeight ? tile.first_row + at : tile.expert * p.depth + at;
      tensor_load(a, map_a, full, tile.m, row);
      tensor_load(a + kBlockBytes, map_a, full, tile.m + 64, row);
    }
    for (int box = rank; box < boxes; box += kBlocks) {  // each block loads its share for all
      const std::uint32_t to = b + box * (kWeight ? kBlockBytes : kBox * 128);
      const int inner = kWeight ? tile.column + 64 * box : at;
      const int outer = tile.first_row + (kWeight ? at : kBox * box);
      if constexpr (kBlocks > 1) {
        tensor_load_all(to, map_b, full, inner, outer, (1U << kBlocks) - 1);
      } else {
        tensor_load(to, map_b, full, inner, outer);
      }
    }
    ring.advance();
  }
}

// ---- consumers: two warpgroups, each the 64 lines of M that are its own
struct Consumer {
  int group, thread, warp, lane;  // thread: in the group
  int start_signal = -1;          // the step after which the other group may begin
};

// A warp has read a stage: every block whose loads will overwrite it is told.
template <int kBlocks>
__device__ inline void release_stage(std::uint32_t barrier, const Consumer& me) {
  if constexpr (kBlocks > 1) {
    if (me.lane < kBlocks) barrier_arrive_in(barrier, static_cast<std::uint32_t>(me.lane));
  } else {
    if (me.lane == 0) barrier_arrive(barrier);
  }
}

// Zeroes the lines of the reduction [valid, next multiple of 16) in both operands: they belong to
// the next expert, or to nobody.
__device__ inline void clear_surplus(std::uint32_t memory, int valid, int columns,
                                     const Consumer& me) {
  const int surplus = round_up(valid, 16) - valid;
  if (surplus == 0) return;
  const int blocks = 1 + (columns + 63) / 64, chunks = surplus * 8;
  for (int i = me.thread; i < blocks * chunks; i += kGroupThreads) {
    const int block = i / chunks;
    const std::uint32_t base =
        memory + (block == 0 ? me.group * kBlockBytes : kBytesA + (block - 1) * kBlockBytes);
    store_shared(base + valid * 128 + i % chunks * 16, {0, 0, 0, 0});
  }
  proxy_fence();
  named_barrier(1 + me.group, kGroupThreads);
}

inline constexpr int kStartBarrier = 1 + kConsumers;

// 16 of the reduction.
template <int kN, GroupedMode kMode>
__device__ __forceinline__ void multiply_part(float (&sum)[128], std::uint32_t memory, int group,
                                              int part, bool first) {
  constexpr bool kMnMajorA = kMode != GroupedMode::Forward;
  constexpr bool kMnMajorB = kMode == GroupedMode::GradWeight;
  wgmma<kN, kMnMajorA, kMnMajorB>(
      sum, descriptor<kMnMajorA>(memory + group * kBlockBytes) + part * reduction_step(kMnMajorA),
      descriptor<kMnMajorB>(memory + kBytesA) + part * reduction_step(kMnMajorB), first ? 0 : 1);
}

// The reduction of a tile: the products of one stage are under way while the next is waited for.
template <int kN, GroupedMode kMode, int kBlocks>
__device__ __forceinline__ void multiply(float (&sum)[128], const Tile&, int steps, Ring& ring,
                                         const Consumer& me) {
  std::uint32_t previous = 0;
  for (int step = 0; step < steps; ++step) {
    barrier_wait(ring.full_barrier(), ring.phase);
    wgmma_fence();
#pragma unroll
    for (int part = 0; part < kTileDepth / 16; ++part) {
      multiply_part<kN, kMode>(sum, ring.memory(), me.group, part, step == 0 && part == 0);
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (step > 0) release_stage<kBlocks>(previous, me);
    if (step == me.start_signal) named_barrier_arrive(kStartBarrier, kConsumers * kGroupThreads);
    previous = ring.empty_barrier();
    ring.advance();
  }
  wgmma_wait<0>();
  accumulator_fence(sum);
  release_stage<kBlocks>(previous, me);
}

// The same where the reduction runs over the rows of an expert, 16 at a time, since they may end
// anywhere.
template <int kN, int kBlocks>
__device__ __forceinline__ void multiply_rows(float (&sum)[128], const Tile& tile, Ring& ring,
                                              const Consumer& me) {
  constexpr int kParts = kTileDepth / 16;
  const int parts = (tile.rows + 15) / 16;
  std::uint32_t previous = 0;
  for (int part = 0; part < parts; ++part) {
    if (part % kParts == 0) {
      barrier_wait(ring.full_barrier(), ring.phase);
      if (part + kParts >= parts) {
        clear_surplus(ring.memory(), tile.rows - part * 16, tile.columns, me);
      }
    }
    wgmma_fence();
    multiply_part<kN, GroupedMode::GradWeight>(sum, ring.memory(), me.group, part % kParts,
                                               part == 0);
    wgmma_commit();
    wgmma_wait<1>();
    if (part == me.start_signal) named_barrier_arrive(kStartBarrier, kConsumers * kGroupThreads);
    if (part % kParts == 0 && part > 0) release_stage<kBlocks>(previous, me);
    if (part % kParts == kParts - 1 || part == parts - 1) {
      previous = ring.empty_barrier();
      ring.advance();
    }
  }
  wgmma_wait<0>();
  accumulator_fence(sum);
  release_stage<kBlocks>(previous, me);
}

template <GroupedMode kMode, int kBlocks>
__device__ __forceinline__ void multiply_any(float (&sum)[128], const Tile& tile, int steps,
                                             Ring& ring, const Consumer& me) {
  if constexpr (kMode == GroupedMode::GradWeight) {
    switch ((tile.columns + 63) / 64) {
      case 1:
        return multiply_rows<64, kBlocks>(sum, tile, ring, me);
      case 2:
        return multiply_rows<128, kBlocks>(sum, tile, ring, me);
      case 3:
        return multiply_rows<192, kBlocks>(sum, tile, ring, me);
      default:
        return multiply_rows<256, kBlocks>(sum, tile, ring, me);
    }
  } else {
    switch ((tile.rows + 15) / 16) {
      case 1:
      case 2:
        return multiply<32, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 3:
      case 4:
        return multiply<64, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 5:
      case 6:
        return multiply<96, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 7:
      case 8:
        return multiply<128, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 9:
        return multiply<144, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 10:
        return multiply<160, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 11:
        return multiply<176, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 12:
        return multiply<192, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 13:
        return multiply<208, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 14:
        return multiply<224, kMode, kBlocks>(sum, tile, steps, ring, me);
      case 15:
        return multiply<240, kMode, kBlocks>(sum, tile, steps, ring, me);
      default:
        return multiply<256, kMode, kBlocks>(sum, tile, steps, ring, me);
    }
  }
}

}  // namespace imhotep::kernels::cuda::sm90
