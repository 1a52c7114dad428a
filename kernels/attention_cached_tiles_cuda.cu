// Attention over pages for prefill: runs of neighbouring rows of one sequence on tensor cores.
// A block of 4 warps takes 64 neighbouring rows and one head, a warp 16 of the rows. For every long
// run among the rows, keys and values go through shared memory in tiles of 64 positions, two stages
// deep (cp.async), and through mma.sync m16n8k16. All rows keep their own softmax; a row that does
// not belong to the run at hand is masked, so any mix of sequences in a call is right. Rows of
// shared memory are 16-byte chunks whose order is turned by the row (chunk ^ row % 8), so that
// ldmatrix meets all banks.
// Source: Dao, "FlashAttention-2" (2023), section 3, on pages.

#include <cmath>

#include "kernels/attention_cached.cuh"
#include "kernels/attention_mma.cuh"

namespace imhotep::kernels::cuda::paged {
namespace {

constexpr int kThreads = 128;
constexpr int kWarpRows = 16;
constexpr int kPositions = 64;  // of a tile
constexpr int kColumns = kPositions / 8;
constexpr std::int64_t kMostTiles = 65535;  // of a grid's second side
constexpr float kLog2E = 1.4426950408889634F;

struct Rows {               // of the block
  int position[kTileRows];  // -1: attends to nothing
  std::int32_t sequence[kTileRows];
};

template <int kDim>
struct Tile {
  static constexpr int kChunks = kDim / 8;  // of a position
  static constexpr int kElements = kPositions * kDim;

  // Element 0 of a chunk of a position.
  __device__ static int at(int position, int chunk) {
    return (position * kChunks + (chunk ^ (position & 7))) * 8;
  }
  // Keys, then values, of positions [first, first + 64); those after `last` are zero.
  __device__ static void load(const Cached<Bf16>& a, const std::int32_t* pages, int head, int first,
                              int last, Bf16* to) {
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kPositions * kChunks; i += kThreads) {
      const int position = i / kChunks, chunk = i % kChunks;
      const std::int64_t from =
          a.slot(pages, min(first + position, last)) + head * kDim + chunk * 8;
      const bool inside = first + position <= last;
      copy_async(to + at(position, chunk), a.k_pages + from, inside);
      copy_async(to + kElements + at(position, chunk), a.v_pages + from, inside);
    }
    commit();
  }
};

// What a thread keeps of its warp's rows g and g + 8, where g = lane / 4.
template <int kDim>
struct Warp {
  Four query[kDim / 16];
  float out[kDim / 8][4] = {};
  float high[2] = {-INFINITY, -INFINITY}, total[2] = {};

  __device__ void load_query(const Cached<Bf16>& a, int first_row, int head) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::int64_t row = first_row + lane / 4 + i % 2 * 8;
        const int column = head * kDim + k * 16 + lane % 4 * 2 + i / 2 * 8;
        query[k].value[i] =
            row < a.rows
                ? *reinterpret_cast<const std::uint32_t*>(a.qkv + row * 3 * a.width + column)
                : 0U;
      }
    }
  }

  __device__ void scores(const Bf16* keys, float (&score)[kColumns][4]) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
#pragma unroll
      for (int n = 0; n < kColumns; n += 2) {
        const int position = n * 8 + lane / 16 * 8 + lane % 8;
        const Four b = load_matrices(keys + Tile<kDim>::at(position, k * 2 + lane / 8 % 2));
        multiply(score[n], query[k], b.value[0], b.value[1]);
        multiply(score[n + 1], query[k], b.value[2], b.value[3]);
      }
    }
  }

  // Turns scores into weights. limit: the last position that each of the two rows sees.
  __device__ void weigh(float (&score)[kColumns][4], int first, const int (&limit)[2],
                        float scale) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float most[2] = {high[0], high[1]};
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int position = first + n * 8 + lane % 4 * 2 + i % 2;
        score[n][i] = position <= limit[i / 2] ? score[n][i] * scale : -INFINITY;
        most[i / 2] = fmaxf(most[i / 2], score[n][i]);
      }
    }
    float keep[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      most[r] = max_of_row(most[r]);
      const float safe = most[r] == -INFINITY ? 0.0F : most[r];  // nothing seen so far
      keep[r] = exp2f(high[r] - safe);
      high[r] = most[r];
      most[r] = safe;
      total[r] *= keep[r];
    }
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        score[n][i] = exp2f(score[n][i] - most[i / 2]);
        total[i / 2] += score[n][i];
      }
    }
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] *= keep[i / 2];
    }
  }

  __device__ void add_values(const Bf16* values, const float (&weight)[kColumns][4]) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int k = 0; k < kPositions / 16; ++k) {
      const float(&left)[4] = weight[2 * k], (&right)[4] = weight[2 * k + 1];
      const Four a{{pair(left[0], left[1]), pair(left[2], left[3]), pair(right[0], right[1]),
                    pair(right[2], right[3])}};
#pragma unroll
      for (int n = 0; n < kDim / 8; n += 2) {
        const int position = k * 16 + lane / 8 % 2 * 8 + lane % 8;
        const Four b = load_transposed(values + Tile<kDim>::at(position, n + lane / 16));
        multiply(out[n], a, b.value[0], b.value[1]);
        multiply(out[n + 1], a, b.value[2], b.value[3]);
      }
    }
  }

  // Rows that saw nothing are left alone: other kernels write them.
  __device__ void store(const Cached<Bf16>& a, int first_row, int head) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float all = sum_of_row(total[r]);
      const std::int64_t row = first_row + lane / 4 + r * 8;
      if (row >= a.rows || all == 0) continue;
      Bf16* to = a.ctx + row * a.width + head * kDim + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        *reinterpret_cast<std::uint32_t*>(to + n * 8) =
            pair(out[n][2 * r] / all, out[n][2 * r + 1] / all);
      }
    }
  }
};

// The rows [begin, end) of the block, all of one sequence.
template <int kDim>
__device__ void attend_run(const Cached<Bf16>& a, const Rows& rows, int begin, int end, int head,
                           Bf16* shared, Warp<kDim>& warp) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int own = static_cast<int>(threadIdx.x) / kWarp * kWarpRows;
  int last = -1, last_own = -1, limit[2];
  for (int i = begin; i < end; ++i) {
    last = max(last, rows.position[i]);
    if (i >= own && i < own + kWarpRows) last_own = max(last_own, rows.position[i]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = own + lane / 4 + r * 8;
    limit[r] = i >= begin && i < end ? rows.position[i] : -1;
  }
  const std::int32_t* pages = a.pages_of(rows.sequence[begin]);
  const auto stage = [&](int tile) { return shared + tile % 2 * 2 * Tile<kDim>::kElements; };
  Tile<kDim>::load(a, pages, head, 0, last, stage(0));
  for (int tile = 0; tile * kPositions <= last; ++tile) {
    const int first = tile * kPositions;
    if (first + kPositions <= last) {
      Tile<kDim>::load(a, pages, head, first + kPositions, last, stage(tile + 1));
    } else {
      commit();  // an empty group, so that the wait below means the same
    }
    wait_for_all_but_one();
    __syncthreads();
    if (first <= last_own) {
      float score[kColumns][4] = {};
      warp.scores(stage(tile), score);
      warp.weigh(score, first, limit, a.scale * kLog2E);
      warp.add_values(stage(tile) + Tile<kDim>::kElements, score);
    }
    __syncthreads();  // the stage is loaded again in the next round
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads) attend_long_runs(Cached<Bf16> a) {
  extern __shared__ __align__(128) char memory[];
  __shared__ Rows rows;
  auto* shared = reinterpret_cast<Bf16*>(memory);
  // The last tiles first: in a chunk they see the most positions.
  const int head = static_cast<int>(blockIdx.x);
  const int first_row = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kTileRows;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kTileRows) {
    const int row = first_row + thread;
    rows.position[thread] = row < a.rows ? a.length(row) - 1 : -1;
    rows.sequence[thread] = row < a.rows ? a.sequences[row] : 0;
  }
  __syncthreads();
  const int own = thread / kWarp * kWarpRows;
  Warp<kDim> warp;
  warp.load_query(a, first_row + own, head);
  int end = 0;
  for (int begin = 0; begin < kTileRows; begin = end) {
    end = begin + 1;
    if (rows.position[begin] < 0) continue;
    while (end < kTileRows && rows.position[end] >= 0 &&
           rows.sequence[end] == rows.sequence[begin]) {
      ++end;
    }
    if (end - begin >= kShortRun) attend_run(a, rows, begin, end, head, shared, warp);
  }
  warp.store(a, first_row + own, head);
}

template <int kDim>
void launch(const Queue& queue, const Cached<Bf16>& a) {
  constexpr int kBytes = 4 * Tile<kDim>::kElements * static_cast<int>(sizeof(Bf16));
  IMHOTEP_CUDA(cudaFuncSetAttribute(attend_long_runs<kDim>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  const std::int64_t tiles = ceil_div(a.rows, kTileRows);
  expect(tiles <= kMostTiles, "attention_cached", "more than 4 million rows in a call");
  const dim3 grid{static_cast<unsigned>(a.heads), static_cast<unsigned>(tiles)};
  attend_long_runs<kDim><<<grid, kThreads, kBytes, stream_of(queue)>>>(a);
  IMHOTEP_LAUNCHED("attention_cached: long runs");
}

}  // namespace

bool attend_tiles(const Queue& queue, const Cached<Bf16>& a) {
  if (a.dim == 64) {
    launch<64>(queue, a);
  } else if (a.dim == 128) {
    launch<128>(queue, a);
  } else {
    return false;
  }
  return true;
}
bool attend_tiles(const Queue&, const Cached<float>&) { return false; }

}  // namespace imhotep::kernels::cuda::paged
