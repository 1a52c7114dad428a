#pragma once
// The body of a product of few rows, for kernels that consist of it (gemm, norm_gemm) or hold it
// beside something else (norm_gate). With kNorm the rows are layer-normalised as they are read,
// every block for itself: it reads all of x, which is small, and saves a kernel.

#include "kernels/few_rows_norm.cuh"

namespace imhotep::kernels::cuda {

template <int kTiles, int kGroups, bool kNorm>
struct FewRowsMemory {  // offsets into dynamic shared memory
  using Shape = FewShape<kTiles, kGroups, kNorm ? 0 : kGroups>;
  int acts, affine, sums, stats, bytes;
  __host__ __device__ FewRowsMemory(int slots, int chunks) {
    acts = FewRing<Shape>::bytes(slots);
    affine = acts + (kNorm ? chunks * kGroups * kPieceBytes : 0);
    sums = affine + (kNorm ? chunks * 128 : 0);
    stats = sums + Shape::kSumBytes * 2;
    bytes = stats + (kNorm ? 2 * 4 * kFewWarps * kGroups * kTileRows : 0);
  }
};

// Sums of all warps, one row an element of `out`: thread (warp, lane) gets rows warp + 8 i, column
// lane.
template <class Shape, int kTiles, int kGroups>
__device__ void gather_sums(const float (&sum)[kTiles][4], float* sums, float (&out)[kGroups]) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  store_sums<Shape>(sums + warp * (kGroups * kTileRows * Shape::kPitch), sum, kGroups > 1);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const bool column = lane < Shape::kCols;
    out[i] = column ? total_of<Shape, kGroups>(sums, warp + i * kTileRows, lane) : 0.0F;
  }
}

// c = epilogue(norm(x) * w^T) by `blocks` blocks, of which this is `block`.
template <int kTiles, int kGroups, bool kNorm>
__device__ void few_rows_body(const FewRowsTask& p, int block, int blocks, unsigned char* memory) {
  static_assert(kGroups <= 2, "one pair of pieces");
  using Shape = FewShape<kTiles, kGroups, kNorm ? 0 : kGroups>;
  constexpr int kDepth = Shape::kDepth;
  const FewRowsMemory<kTiles, kGroups, kNorm> layout(p.slots, p.chunks);
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const FewPart part(p.chunks, warp, kFewWarps);
  const FewRing<Shape> ring(memory, p.slots);
  const int lane_row = lane / 4, lane_col = part.first * kChunk + 8 * (lane % 4);

  int fill_item = part.count > 0 ? block : p.items, fill_chunk = 0;
  const std::int64_t eight_rows = std::int64_t{kTileRows} * p.k;
  FewStrip weights, rows;
  const auto fill_weights = [&](int slot) {
    if (fill_chunk == 0) {
      const int row = fill_item * Shape::kCols + lane_row;
      weights = {p.w + static_cast<std::int64_t>(row) * p.k + lane_col, pieces_from(row, p.n)};
    }
    copy_strip<kTiles>(ring.piece(slot, 0), weights, eight_rows,
                       lane_col + fill_chunk * kChunk < p.k);
  };
  const auto fill_rows = [&](int slot, int chunk) {
    if (chunk == 0) {
      rows = {p.x + static_cast<std::int64_t>(lane_row) * p.k + lane_col,
              pieces_from(lane_row, p.rows)};
    }
    copy_strip<kGroups>(ring.piece(slot, kTiles), rows, eight_rows,
                        lane_col + chunk * kChunk < p.k);
  };
  const auto advance = [&] {
    if (++fill_chunk == part.count) {
      fill_chunk = 0;
      fill_item += blocks;
    }
  };

  // Before the predecessors are done: weights only.
  const std::uint32_t affine = shared_address(memory + layout.affine);
  if constexpr (kNorm) {
    fetch_affine(p, part, affine);
    commit_copies();
  }
  int filled = 0;
  for (int s = 0; s < kDepth; ++s) {
    if (fill_item < p.items) {
      fill_weights(s);
      advance();
      ++filled;
    }
    if constexpr (kNorm) commit_copies();
  }
  if constexpr (!kNorm) commit_copies();
  const std::uint32_t acts = shared_address(memory + layout.acts);
  const auto bias_at = [&](int item) {
    const int col = item * Shape::kCols + lane;
    const bool has = p.epilogue != Epilogue::None && lane < Shape::kCols && col < p.n;
    return has ? to_float(p.bias[col]) : 0.0F;
  };
  float bias = block < p.items ? bias_at(block) : 0.0F;
  wait_for_predecessors();
  if constexpr (kNorm) {
    await_copies<kDepth>();
    __syncwarp();
    norm_rows<kGroups>(p, part, acts, affine, reinterpret_cast<float*>(memory + layout.stats));
  } else {
    for (int s = 0; s < kDepth; ++s) {
      if (s < filled) fill_rows(s, s % part.count);
      commit_copies();
    }
  }

  int slot = 0, turn = 0;
  for (int item = block; item < p.items; item += blocks, turn ^= 1) {
    const int col = item * Shape::kCols + lane;
    const bool column = lane < Shape::kCols && col < p.n;
    if (item != block) bias = bias_at(item);
    float addend[kGroups] = {};
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int row = warp + i * kTileRows;
      if (p.epilogue == Epilogue::BiasResidual && column && row < p.rows) {
        addend[i] = to_float(p.addend[static_cast<std::int64_t>(row) * p.n + col]);
      }
    }
    float sum[kTiles][4] = {};
    for (int c = 0; c < part.count; ++c) {
      await_copies<kDepth - 1>();
      uint4 w[kTiles], x[2];
#pragma unroll
      for (int j = 0; j < kTiles; ++j) w[j] = load_shared(ring.piece(slot, j));
#pragma unroll
      for (int a = 0; a < kGroups; ++a) {
        x[a] = load_shared(kNorm ? acts + ((part.first + c) * kGroups + a) * kPieceBytes + lane * 16
                                 : ring.piece(slot, kTiles + a));
      }
      if constexpr (kGroups == 1) x[1] = make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) multiply_chunk(sum[j], x[0], x[1], w[j]);
      if (fill_item < p.items) {
        fill_weights(slot);
        if constexpr (!kNorm) fill_rows(slot, fill_chunk);
        advance();
      }
      commit_copies();
      slot = ring.next(slot);
    }
    float out[kGroups];
    auto* sums = reinterpret_cast<float*>(memory + layout.sums) + turn * Shape::kSumFloats;
    gather_sums<Shape>(sum, sums, out);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int row = warp + i * kTileRows;
      if (!column || row >= p.rows) continue;
      const std::int64_t at = static_cast<std::int64_t>(row) * p.n + col;
      float y = out[i] + bias;
      if (p.epilogue == Epilogue::BiasGelu) {
        if (p.pre != nullptr) p.pre[at] = from_float<Bf16>(y);
        y = gelu(y);
      }
      p.c[at] = from_float<Bf16>(y + addend[i]);
    }
  }
}

// ---- on the host

// Tiles that an item of one block has: the fewest rows at the fullest multiprocessor, then the
// most tiles, which share the activations.
[[nodiscard]] inline int choose_tiles(std::int64_t n, int multiprocessors, int fewest, int most) {
  const std::int64_t tiles = ceil_div(n, kTileRows);
  int best = most;
  std::int64_t least = INT64_MAX;
  for (int t = most; t >= fewest; --t) {
    const std::int64_t rows = ceil_div(ceil_div(tiles, t), multiprocessors) * t;
    if (rows < least) {
      least = rows;
      best = t;
    }
  }
  return best;
}

}  // namespace imhotep::kernels::cuda
