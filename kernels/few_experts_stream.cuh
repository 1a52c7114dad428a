#pragma once
// Rows of routes times the matrices of their experts, as a stream of equal items: 8 kTiles columns
// of one expert, one part of k, at most 8 kGroups of the expert's rows. A team of kTeam warps
// shares an item's part of k and strides over the items with one ring of weights that never runs
// dry between them. Parts of k are neighbours in
// the order of items, and so are parts of an expert's rows, whose weights are read from memory
// once; so at any time the device reads a few runs of memory, each as long as an expert's tile.
// Only for few_experts_*_cuda.cu.

#include "kernels/few_experts.cuh"

namespace imhotep::kernels::cuda {

struct StreamTask {
  const Bf16* rows = nullptr;     // [tokens or routes, depth]
  const Bf16* weights = nullptr;  // [experts, columns, depth]
  int columns = 0, depth = 0, experts = 0;
  int divisor = 1;            // routes that share a row of `rows`
  int tiles = 0, splits = 1;  // items of a matrix; with splits > 1 every warp has some of k
};

// Weights in flight a block. With at most 8 rows more of them pay; with 16 they do not.
constexpr int stream_kib(int groups) { return groups == 1 ? 112 : 64; }

template <int kTiles, int kGroups>
struct StreamMemory {  // offsets into dynamic shared memory
  using Shape = FewShape<kTiles, kGroups, kGroups, stream_kib(kGroups)>;
  static constexpr int kSums = FewRing<Shape>::bytes(Shape::kDepth);
  static constexpr int kEnd = kSums + 2 * Shape::kSumBytes;
};

// Warps that share an item: so few that each has many chunks of k to do before they meet, since
// whoever is ready waits for the others (docs/benchmarks/gpu-teams.txt).
constexpr int kLeastChunks = 16, kLeastTeam = kFewWarps / 2;
[[nodiscard]] inline int team_of(std::int64_t chunks) {
  return chunks >= std::int64_t{kLeastChunks} * kFewWarps ? kFewWarps : kLeastTeam;
}
// Calls work with the team of so many chunks as a constant.
template <class Work>
void with_team(std::int64_t chunks, Work work) {
  if (team_of(chunks) == kFewWarps) return work.template operator()<kFewWarps>();
  return work.template operator()<kLeastTeam>();
}

template <int kGroups, int kTeam>
struct StreamItem {
  int expert = 0, tile = 0, split = 0;
  int place = 0, rows = 0;  // place: of the item's first row in table.order

  __device__ void seek(int item, const StreamTask& p, const RouteTable& table) {
    const int each = p.tiles * p.splits;
    expert = table.expert_of_part[item / each];
    const int parts = table.parts_before[expert + 1] - table.parts_before[expert];
    const int local = item - each * table.parts_before[expert];
    const int part = local % parts, at = local / parts;
    split = at % p.splits;
    tile = at / p.splits;
    place = table.first[expert] + part * kGroups * kTileRows;
    const int left = table.first[expert + 1] - place;
    rows = left < kGroups * kTileRows ? left : kGroups * kTileRows;
  }
  [[nodiscard]] __device__ FewPart part(const StreamTask& p) const {
    const int member = static_cast<int>(threadIdx.x) / kWarp % kTeam;
    return {(p.depth + kChunk - 1) / kChunk, split * kTeam + member, p.splits * kTeam};
  }
};

// Copies of one warp, chunk after chunk and item after item.
template <int kTiles, int kGroups, int kTeam>
struct StreamFill {
  using Shape = FewShape<kTiles, kGroups, kGroups, stream_kib(kGroups)>;
  const StreamTask& p;
  const RouteTable& table;
  int items, teams, item, chunk = 0, count = 0, column = 0;
  StreamItem<kGroups, kTeam> at;
  FewStrip weights, rows[kGroups];

  __device__ StreamFill(const StreamTask& task, const RouteTable& routes, int first, int step)
      : p(task), table(routes), teams(step), item(first) {
    items = p.tiles * p.splits * table.parts_before[p.experts];
    if (at.part(p).count == 0) item = items;  // then there is one part of k, the same for all
  }
  __device__ void begin() {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    at.seek(item, p, table);
    const FewPart part = at.part(p);
    count = part.count;
    column = part.first * kChunk + 8 * (lane % 4);
    const int row = at.tile * Shape::kCols + lane / 4;
    const std::int64_t line = static_cast<std::int64_t>(at.expert) * p.columns + row;
    weights = {p.weights + line * p.depth + column, pieces_from(row, p.columns)};
#pragma unroll
    for (int a = 0; a < kGroups; ++a) {
      rows[a] = {p.rows, 0};
      const int own = a * kTileRows + lane / 4;
      if (own < at.rows) {
        const std::int64_t from = table.order[at.place + own] / p.divisor;
        rows[a] = {p.rows + from * p.depth + column, 1};
      }
    }
  }
  __device__ void operator()(const FewRing<Shape>& ring, int slot) {
    if (item >= items) return;
    if (chunk == 0) begin();
    const bool inside = column + chunk * kChunk < p.depth;
    const std::int64_t eight_rows = std::int64_t{kTileRows} * p.depth;
    copy_strip<kTiles>(ring.piece(slot, 0), weights, eight_rows, inside);
#pragma unroll
    for (int a = 0; a < kGroups; ++a) {
      if (a * kTileRows >= at.rows) continue;
      copy_strip<1>(ring.piece(slot, kTiles + a), rows[a], eight_rows, inside);
    }
    if (++chunk == count) {
      chunk = 0;
      item += teams;
    }
  }
};

template <int kTeam>
__device__ inline void meet_team(int team) {
  if constexpr (kTeam == kFewWarps) {
    __syncthreads();
  } else {
    asm volatile("bar.sync %0, %1;" ::"r"(team + 1), "n"(kTeam * kWarp) : "memory");
  }
}

// finish.begun(blocks) is called once the first copies are under way.
// finish.prepare(item, column) is asked for before an item's products, for a value of the column;
// finish.put(item, route, column, sum, value) takes each sum. `table` cut into parts of 8 kGroups.
template <int kTiles, int kGroups, int kTeam, class Finish>
__device__ void stream_items(const StreamTask& p, const RouteTable& table, unsigned char* memory,
                             int blocks, const Finish& finish) {
  using Shape = FewShape<kTiles, kGroups, kGroups, stream_kib(kGroups)>;
  static_assert(kGroups <= 2, "one pair of pieces");
  constexpr int kDepth = Shape::kDepth;
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int team = warp / kTeam, member = warp % kTeam;
  constexpr int kTeams = kFewWarps / kTeam;
  // Neighbouring items go to different blocks, which matters when there are few.
  const int first = team * blocks + static_cast<int>(blockIdx.x), step = kTeams * blocks;
  const FewRing<Shape> ring(memory, kDepth);
  StreamFill<kTiles, kGroups, kTeam> fill(p, table, first, step);
  for (int s = 0; s < kDepth; ++s) {
    fill(ring, s);
    commit_copies();
  }
  finish.begun(blocks);
  StreamItem<kGroups, kTeam> at;
  int slot = 0, turn = 0;
  for (int item = first; item < fill.items; item += step, turn ^= 1) {
    at.seek(item, p, table);
    const int column = at.tile * Shape::kCols + lane;
    const bool writes = lane < Shape::kCols && column < p.columns && member < at.rows;
    const float value = writes ? finish.prepare(at, column) : 0.0F;
    const int count = at.part(p).count;
    float sum[kTiles][4] = {};
    for (int c = 0; c < count; ++c) {
      await_copies<kDepth - 1>();
      uint4 w[kTiles], high = make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) w[j] = load_shared(ring.piece(slot, j));
      const uint4 low = load_shared(ring.piece(slot, kTiles));
      if (kGroups > 1 && at.rows > kTileRows) high = load_shared(ring.piece(slot, kTiles + 1));
#pragma unroll
      for (int j = 0; j < kTiles; ++j) multiply_chunk(sum[j], low, high, w[j]);
      fill(ring, slot);
      commit_copies();
      slot = ring.next(slot);
    }
    constexpr int kOne = kGroups * kTileRows * Shape::kPitch;
    float* sums = reinterpret_cast<float*>(memory + StreamMemory<kTiles, kGroups>::kSums) +
                  turn * Shape::kSumFloats + team * kTeam * kOne;
    store_sums<Shape>(sums + member * kOne, sum, kGroups > 1 && at.rows > kTileRows);
    meet_team<kTeam>(team);
    if (!writes) continue;
    for (int row = member; row < at.rows; row += kTeam) {
      finish.put(at, table.order[at.place + row], column,
                 total_of<Shape, kGroups, kTeam>(sums, row, lane), value);
    }
  }
}

}  // namespace imhotep::kernels::cuda
