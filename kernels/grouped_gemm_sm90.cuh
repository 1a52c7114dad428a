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

inline constexpr int kBlocks = 2;  // of a cluster: they share the N of a tile, each with its own M
inline constexpr int kTileM = 128, kTileN = 256, kTileDepth = 64;
inline constexpr int kBox = 32;    // rows in a TMA box of rows of experts
inline constexpr int kStages = 4;  // at most; as many as fit beside two staging buffers a group
inline constexpr int kBytesA = kTileM * kTileDepth * 2, kBytesB = kTileN * kTileDepth * 2;
inline constexpr int kStageBytes = kBytesA + kBytesB;
inline constexpr int kGroupThreads = 128, kConsumers = 2;
inline constexpr int kThreads = (1 + kConsumers) * kGroupThreads;
inline constexpr int kConsumerWarps = kConsumers * kGroupThreads / kWarp;
inline constexpr int kProducerRegisters = 56, kConsumerRegisters = 224;  // 64512 in all, of 65536
inline constexpr int kMaxExperts = 256;  // as the memory allows; one thread counts one's tiles
inline constexpr int kTileSlots = 2;
// Of each group, in the memory the stages leave.
[[nodiscard]] __device__ constexpr int staging_buffers(int stages) { return stages == 4 ? 2 : 4; }

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
  int stages = 0;               // of the ring: 3 or 4
  int* next_item = nullptr;     // 0 before the launch
  FaultRecord* fault = nullptr;
};

struct Maps {  // of the matrices that TMA reads and writes
  CUtensorMap a, b, out, pre;
};

struct Tile {
  int expert;  // -1: there are no more
  int first_row, rows, m, column, columns;
};

struct Shared {
  // The stages, then the staging buffers of each group.
  alignas(kAtomBytes) unsigned char memory[kStages * kStageBytes +
                                           kConsumers * staging_buffers(kStages) * kBlockBytes];
  Tile tiles[kTileSlots];
  std::uint64_t full[kStages], empty[kStages], tile_full[kTileSlots], tile_empty[kTileSlots];
  std::uint64_t item_full[kTileSlots];
  int items[kTileSlots];             // of the second block of a pair, written by the first
  int first_item[kMaxExperts + 1];   // of each in the order below; the last: how many there are
  std::uint16_t order[kMaxExperts];  // those with the longest tiles first
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

template <GroupedMode kMode>
__device__ int items_of(const Product& p, int rows) {
  const int blocks = (p.m + kBlocks * kTileM - 1) / (kBlocks * kTileM);
  if constexpr (kMode == GroupedMode::GradWeight) {
    return rows > 0 || p.other == nullptr ? blocks * ((p.columns + kTileN - 1) / kTileN) : 0;
  } else {
    return rows > 0 ? blocks * ((rows + kTileN - 1) / kTileN) : 0;
  }
}

// Tiles that share a weight follow one another, and so run at the same time on several SMs.
template <GroupedMode kMode>
__device__ Tile tile_of(const Product& p, const Shared& shared, int item) {
  const int* first_item = shared.first_item;
  int low = 0, high = p.experts;  // first_item[low] <= item < first_item[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (first_item[middle] <= item ? low : high) = middle;
  }
  const int local = item - first_item[low], expert = shared.order[low];
  const int begin = first_row_of(p, expert), rows = first_row_of(p, expert + 1) - begin;
  if constexpr (kMode == GroupedMode::GradWeight) {
    const int blocks = (p.columns + kTileN - 1) / kTileN;
    const int column = local % blocks * kTileN;
    return {expert,       begin,
            max(rows, 0), local / blocks * kBlocks * kTileM,
            column,       min(kTileN, p.columns - column)};
  } else {
    const int height = tile_rows(rows), tiles = (rows + height - 1) / height;
    const int row = local % tiles * height;
    return {expert, begin + row, min(height, rows - row), local / tiles * kBlocks * kTileM, 0, 0};
  }
}

// Fills order and first_item; all threads of the block.
template <GroupedMode kMode>
__device__ void count_items(const Product& p, Shared& shared) {
  int* first_item = shared.first_item;
  const int thread = static_cast<int>(threadIdx.x);
  int rows = 0, length = 0, place = 0;
  if (thread < p.experts) {
    rows = first_row_of(p, thread + 1) - first_row_of(p, thread);
    length = kMode == GroupedMode::GradWeight || rows <= 0 ? rows : tile_rows(rows);
    first_item[thread] = length;
  }
  __syncthreads();
  if (thread < p.experts) {  // long tiles at the end would leave SMs idle
#pragma unroll 4
    for (int e = 0; e < p.experts; ++e) {
      const int other = first_item[e];
      place += other > length || (other == length && e < thread) ? 1 : 0;
    }
  }
  __syncthreads();
  if (thread < p.experts) {
    shared.order[place] = static_cast<std::uint16_t>(thread);
    first_item[place + 1] = items_of<kMode>(p, rows);
  }
  if (thread == 0) {
    first_item[0] = 0;
    const int all = __ldg(p.offsets + p.experts);
    if (all > p.bound && blockIdx.x == 0) {
      report_fault(p.fault, Fault::RowsExceedBound, all, p.bound);
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
  std::uint32_t count, stage = 0, phase = 0;

  __device__ Ring(Shared& shared, int stage_count)
      : stages(shared_address(shared.memory)),
        full(shared_address(shared.full)),
        empty(shared_address(shared.empty)),
        count(static_cast<std::uint32_t>(stage_count)) {}
  __device__ std::uint32_t memory() const { return stages + stage * kStageBytes; }
  __device__ std::uint32_t full_barrier() const { return full + stage * 8; }
  __device__ std::uint32_t empty_barrier() const { return empty + stage * 8; }
  __device__ void advance() {
    if (++stage == count) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// ---- producer: one thread
inline constexpr int kBoxBytes = kBox * 128;

// To both blocks.
__device__ inline void load_shared_box(std::uint32_t to, const CUtensorMap& map,
                                       std::uint32_t barrier, int inner, int outer) {
  tensor_load_all(to, map, barrier, inner, outer, (1U << kBlocks) - 1);
}

template <GroupedMode kMode>
__device__ void load_tile(const Product& p, const Tile& tile, const Maps& maps, int rank,
                          Ring& ring) {
  const int boxes = (tile.rows + kBox - 1) / kBox;
  const auto bytes = static_cast<std::uint32_t>(kBytesA + boxes * kBoxBytes);
  for (int at = 0; at < p.depth; at += kTileDepth) {
    barrier_wait(ring.empty_barrier(), ring.phase ^ 1);
    const std::uint32_t full = ring.full_barrier(), a = ring.memory(), b = a + kBytesA;
    barrier_arrive_expect(full, bytes);
    if constexpr (kMode == GroupedMode::Forward) {
      tensor_load(a, maps.a, full, at, tile.expert * p.m + tile.m);
    } else {
      const int row = tile.expert * p.depth + at;
      tensor_load(a, maps.a, full, tile.m, row);
      tensor_load(a + kBlockBytes, maps.a, full, tile.m + 64, row);
    }
    for (int box = rank; box < boxes; box += kBlocks) {  // each block loads its share for all
      load_shared_box(b + box * kBoxBytes, maps.b, full, at, tile.first_row + kBox * box);
    }
    ring.advance();
  }
}

// The same where the reduction runs over rows: no more boxes of them than the expert fills.
__device__ void load_rows(const Tile& tile, const Maps& maps, int rank, Ring& ring) {
  const int blocks = (tile.columns + 63) / 64;
  for (int at = 0; at < tile.rows; at += kTileDepth) {
    barrier_wait(ring.empty_barrier(), ring.phase ^ 1);
    const std::uint32_t full = ring.full_barrier(), a = ring.memory(), b = a + kBytesA;
    const int boxes = tile.rows - at > kBox ? 2 : 1;
    barrier_arrive_expect(full, static_cast<std::uint32_t>((2 + blocks) * boxes * kBoxBytes));
    for (int box = 0; box < boxes; ++box) {
      const std::uint32_t offset = box * kBoxBytes;
      const int row = tile.first_row + at + kBox * box;
      tensor_load(a + offset, maps.a, full, tile.m, row);
      tensor_load(a + kBlockBytes + offset, maps.a, full, tile.m + 64, row);
      for (int block = rank; block < blocks; block += kBlocks) {
        load_shared_box(b + block * kBlockBytes + offset, maps.b, full, tile.column + 64 * block,
                        row);
      }
    }
    ring.advance();
  }
}

// ---- consumers: two warpgroups, each the 64 lines of M that are its own
struct Consumer {
  int group, thread, warp, lane;  // thread: in the group
  int start_signal = -1;          // the step after which the other group may begin
  std::uint32_t staging = 0;      // shared address of the group's buffers
  int buffers = 0, buffer = 0;    // how many there are; the next one
};

// A warp has read a stage: both blocks are told, since the loads of either will overwrite it.
__device__ inline void release_stage(std::uint32_t barrier, const Consumer& me) {
  if (me.lane < kBlocks) barrier_arrive_in(barrier, static_cast<std::uint32_t>(me.lane));
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
template <int kN, GroupedMode kMode>
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
    if (step > 0) release_stage(previous, me);
    if (step == me.start_signal) named_barrier_arrive(kStartBarrier, kConsumers * kGroupThreads);
    previous = ring.empty_barrier();
    ring.advance();
  }
  wgmma_wait<0>();
  accumulator_fence(sum);
  release_stage(previous, me);
}

// The same where the reduction runs over the rows of an expert, 16 at a time, since they may end
// anywhere.
template <int kN>
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
    if (part % kParts == 0 && part > 0) release_stage(previous, me);
    if (part % kParts == kParts - 1 || part == parts - 1) {
      previous = ring.empty_barrier();
      ring.advance();
    }
  }
  wgmma_wait<0>();
  accumulator_fence(sum);
  release_stage(previous, me);
}

template <GroupedMode kMode>
__device__ __forceinline__ void multiply_any(float (&sum)[128], const Tile& tile, int steps,
                                             Ring& ring, const Consumer& me) {
  if constexpr (kMode == GroupedMode::GradWeight) {
    switch ((tile.columns + 63) / 64) {
      case 1:
        return multiply_rows<64>(sum, tile, ring, me);
      case 2:
        return multiply_rows<128>(sum, tile, ring, me);
      case 3:
        return multiply_rows<192>(sum, tile, ring, me);
      default:
        return multiply_rows<256>(sum, tile, ring, me);
    }
  } else {
    switch ((tile.rows + 15) / 16) {
      case 1:
      case 2:
        return multiply<32, kMode>(sum, tile, steps, ring, me);
      case 3:
      case 4:
        return multiply<64, kMode>(sum, tile, steps, ring, me);
      case 5:
      case 6:
        return multiply<96, kMode>(sum, tile, steps, ring, me);
      case 7:
      case 8:
        return multiply<128, kMode>(sum, tile, steps, ring, me);
      case 9:
        return multiply<144, kMode>(sum, tile, steps, ring, me);
      case 10:
        return multiply<160, kMode>(sum, tile, steps, ring, me);
      case 11:
        return multiply<176, kMode>(sum, tile, steps, ring, me);
      case 12:
        return multiply<192, kMode>(sum, tile, steps, ring, me);
      case 13:
        return multiply<208, kMode>(sum, tile, steps, ring, me);
      case 14:
        return multiply<224, kMode>(sum, tile, steps, ring, me);
      case 15:
        return multiply<240, kMode>(sum, tile, steps, ring, me);
      default:
        return multiply<256, kMode>(sum, tile, steps, ring, me);
    }
  }
}

}  // namespace imhotep::kernels::cuda::sm90
