#pragma once
// The epilogue of the grouped product for compute capability 9.0a. A warpgroup holds 64 of M by up
// to 256 of N in registers and passes them on in pieces of 64 by 64: bias, GELU or its slope in
// registers, bf16 through a staging buffer (matrix stores, transposed where M is the inner
// dimension of the result), then bulk tensor stores, which run on while the buffers last. The last
// rows of an expert, where a box would reach into the next, are stored 16 bytes a thread. A matrix
// that is read (pre-activations, old gradients) is brought to the L2 cache during the products.
// In GradWeight every warp is on its own, with 16 lines of a buffer; else the group is together.
// Staging: 64 lines of 128 bytes; chunk c of line l lies at c ^ (l % 8), free of bank conflicts,
// as the 128-byte swizzle of TMA.

#include "kernels/grouped_gemm_sm90.cuh"

namespace imhotep::kernels::cuda::sm90 {

// tanh to 2^-11: a quarter of the bf16 rounding of the result.
__device__ inline float quick_tanh(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float quick_gelu(float x) {
  const float inner = x * (0.7978845608F + 0.7978845608F * 0.044715F * x * x);
  const float half = 0.5F * x;
  return half + half * quick_tanh(inner);
}
__device__ inline float quick_gelu_slope(float x) {
  const float squared = x * x;
  const float t = quick_tanh(x * (0.7978845608F + 0.7978845608F * 0.044715F * squared));
  const float slope = 0.7978845608F + 3.0F * 0.7978845608F * 0.044715F * squared;
  return 0.5F + 0.5F * t + 0.5F * x * (1.0F - t * t) * slope;
}

__device__ inline std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
__device__ inline void pack(const float (&v)[8], std::uint32_t (&r)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) r[i] = pack(v[2 * i], v[2 * i + 1]);
}
__device__ inline float unpack(std::uint32_t pair, bool high) {
  return __uint_as_float(high ? pair & 0xffff0000U : pair << 16);
}

// Where one thread's part of the result lies. kTransposed: lines are rows of the expert, chunks
// lie along M; else lines are M.
template <bool kTransposed>
struct Places {
  static constexpr int kLineStep = kTransposed ? 16 : 4;
  std::uint32_t matrix;    // place in a buffer of this lane's line of the first 16 by 16
  std::uint32_t chunk;     // of the first of its four chunks of 16 bytes, kLineStep lines apart
  std::int64_t first;      // element of the result that belongs to that chunk
  std::int64_t line_step;  // elements from a line to the next
  int line, extent;        // of N: lines or columns that exist in this tile
  int turn, unit;

  __device__ Places(const Product& p, const Tile& tile, int m, const Consumer& me) {
    const int quarter = me.lane / 8;
    turn = me.lane % 8;
    line = kTransposed ? me.thread / 8 : 16 * me.warp + quarter;
    const int column = me.thread % 8;
    chunk = line * 128 + ((column ^ (line % 8)) << 4);
    if constexpr (kTransposed) {
      unit = 2 * me.warp + quarter % 2;
      matrix = (8 * (quarter / 2) + turn) * 128;
      line_step = p.m;
      first = (std::int64_t{tile.first_row} + line) * line_step + m + 8 * column;
      extent = tile.rows;
    } else {
      unit = quarter / 2;
      matrix = (16 * me.warp + 8 * (quarter % 2) + turn) * 128;
      line_step = p.columns;
      first = (std::int64_t{tile.expert} * p.m + m + line) * line_step + tile.column + 8 * column;
      extent = tile.columns;
    }
  }
  // Of the lane's line in the 16 of N that are number `pair` of a piece.
  __device__ std::uint32_t matrix_at(int pair) const {
    if constexpr (kTransposed) return matrix + pair * 2048 + ((unit ^ turn) << 4);
    return matrix + (((2 * pair + unit) ^ turn) << 4);
  }
  __device__ std::uint32_t chunk_at(int part) const {
    if constexpr (kTransposed) return chunk + 2048 * part;
    return (chunk ^ (part % 2 << 6)) + 512 * part;  // the line is 4 further: another swizzle
  }
  __device__ bool exists(int piece, int part) const {
    return !kTransposed || 64 * piece + kLineStep * part + line < extent;
  }
  __device__ std::int64_t element(int piece, int part) const {
    return first + (kTransposed ? (64 * piece + kLineStep * part) * line_step
                                : 64 * piece + kLineStep * part * line_step);
  }
  __device__ void read(const Bf16* from, int piece, uint4 (&parts)[4]) const {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      parts[part] = exists(piece, part)
                        ? *reinterpret_cast<const uint4*>(from + element(piece, part))
                        : uint4{0, 0, 0, 0};
    }
  }
  __device__ void write(Bf16* to, int piece, std::uint32_t buffer) const {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      if (exists(piece, part)) {
        *reinterpret_cast<uint4*>(to + element(piece, part)) = load_shared(buffer + chunk_at(part));
      }
    }
  }
};

// What becomes of 8 sums (16 of N, one lane): the values to store, through registers.
template <GroupedMode kMode>
__device__ __forceinline__ void apply(const Product& p, std::uint32_t second, float bias_low,
                                      float bias_high, float (&v)[8]) {
  std::uint32_t r[4];
  if constexpr (kMode == GroupedMode::Forward) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] += i / 2 % 2 == 0 ? bias_low : bias_high;
    if (p.gelu) {
      if (p.pre != nullptr) {
        pack(v, r);
        store_matrices<true>(second, r);
      }
#pragma unroll
      for (float& x : v) x = quick_gelu(x);
    }
  } else if (p.other != nullptr) {
    load_matrices<kMode == GroupedMode::GradInput>(second, r);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float other = unpack(r[i / 2], i % 2 == 1);
      v[i] = kMode == GroupedMode::GradInput ? v[i] * quick_gelu_slope(other) : v[i] + other;
    }
  }
}

template <GroupedMode kMode>
using PlacesOf = Places<kMode != GroupedMode::GradWeight>;

// Those who fill a buffer together, and the one among them who stores it.
template <GroupedMode kMode>
__device__ inline void meet(const Consumer& me) {
  if constexpr (kMode == GroupedMode::GradWeight) {
    __syncwarp();
  } else {
    named_barrier(1 + me.group, kGroupThreads);
  }
}
template <GroupedMode kMode>
__device__ inline bool stores(const Consumer& me) {
  return (kMode == GroupedMode::GradWeight ? me.lane : me.thread) == 0;
}
// What becomes of the last `pending` pieces stored may still be read from shared memory.
__device__ inline void wait_for_stores(int pending) {
  if (pending == 0) {
    stores_wait<0>();
  } else if (pending == 1) {
    stores_wait<1>();
  } else {
    stores_wait<3>();
  }
}

// A piece from its buffer to memory.
template <GroupedMode kMode>
__device__ __forceinline__ void store_piece(const Product& p, const Maps& maps, const Tile& tile,
                                            const PlacesOf<kMode>& places, int piece,
                                            std::uint32_t buffer, const Consumer& me) {
  const int m = tile.m + 64 * me.group;
  const bool keeps = kMode == GroupedMode::Forward && p.gelu && p.pre != nullptr;
  if constexpr (kMode == GroupedMode::GradWeight) {
    if (stores<kMode>(me)) {
      tensor_store(maps.out, buffer + 2048 * me.warp, tile.column + 64 * piece,
                   tile.expert * p.m + m + 16 * me.warp);
    }
  } else if (64 * (piece + 1) <= places.extent) {
    if (stores<kMode>(me)) {
      tensor_store(maps.out, buffer, m, tile.first_row + 64 * piece);
      if (keeps) tensor_store(maps.pre, buffer + kBlockBytes, m, tile.first_row + 64 * piece);
    }
  } else {
    places.write(p.out, piece, buffer);
    if (keeps) places.write(p.pre, piece, buffer + kBlockBytes);
  }
  if (stores<kMode>(me)) stores_commit();
}

// 64 of N. `other`: this piece of the matrix that is read; leaves the next.
template <GroupedMode kMode, int kPiece>
__device__ __forceinline__ void finish_piece(const float (&sum)[128], const Product& p,
                                             const Maps& maps, const Tile& tile,
                                             const PlacesOf<kMode>& places, Consumer& me,
                                             const float (&bias)[2], uint4 (&other)[4]) {
  if (64 * kPiece >= places.extent) return;
  const bool reads = kMode != GroupedMode::Forward && p.other != nullptr;
  const int slots = reads || (p.gelu && p.pre != nullptr) ? 2 : 1;
  const std::uint32_t buffer = me.staging + me.buffer * kBlockBytes;
  me.buffer = me.buffer + slots == me.buffers ? 0 : me.buffer + slots;
  if (reads) {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      store_shared(buffer + kBlockBytes + places.chunk_at(part), other[part]);
    }
    if (64 * (kPiece + 1) < places.extent) places.read(p.other, kPiece + 1, other);
  }
  if (stores<kMode>(me)) wait_for_stores(me.buffers / slots - 1);
  meet<kMode>(me);  // the buffers are filled, or free again
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = sum[32 * kPiece + 8 * pair + i];
    const std::uint32_t at = buffer + places.matrix_at(pair);
    apply<kMode>(p, at + kBlockBytes, bias[0], bias[1], v);
    std::uint32_t r[4];
    pack(v, r);
    store_matrices<kMode != GroupedMode::GradWeight>(at, r);
  }
  proxy_fence();
  meet<kMode>(me);
  store_piece<kMode>(p, maps, tile, places, kPiece, buffer, me);
}

// What the epilogue reads, asked for before the products.
template <GroupedMode kMode>
__device__ __forceinline__ void ask(const Product& p, const Tile& tile, const Consumer& me,
                                    float (&bias)[2]) {
  const int m = tile.m + 64 * me.group;
  if (m >= p.m) return;
  if constexpr (kMode == GroupedMode::Forward) {
    if (p.bias == nullptr) return;
    const Bf16* from = p.bias + std::int64_t{tile.expert} * p.m + m + 16 * me.warp + me.lane / 4;
    bias[0] = to_float(from[0]);
    bias[1] = to_float(from[8]);
  } else if (p.other != nullptr) {
    constexpr bool kWeight = kMode == GroupedMode::GradWeight;
    const int lines = kWeight ? tile.columns : tile.rows;  // of 128 bytes
#pragma unroll
    for (int i = me.thread; i < kTileN; i += kGroupThreads) {
      if ((kWeight ? i % 4 * 64 : i) >= lines) continue;
      prefetch_line(kWeight ? p.other + (std::int64_t{tile.expert} * p.m + m + i / 4) * p.columns +
                                  tile.column + i % 4 * 64
                            : p.other + (std::int64_t{tile.first_row} + i) * p.m + m);
    }
  }
}

template <GroupedMode kMode>
__device__ __forceinline__ void finish_tile(const float (&sum)[128], const Product& p,
                                            const Maps& maps, const Tile& tile, Consumer& me,
                                            const float (&bias)[2]) {
  const int m = tile.m + 64 * me.group;
  if (m >= p.m) return;
  const PlacesOf<kMode> places(p, tile, m, me);
  uint4 other[4] = {};
  if (kMode != GroupedMode::Forward && p.other != nullptr) places.read(p.other, 0, other);
  finish_piece<kMode, 0>(sum, p, maps, tile, places, me, bias, other);
  finish_piece<kMode, 1>(sum, p, maps, tile, places, me, bias, other);
  finish_piece<kMode, 2>(sum, p, maps, tile, places, me, bias, other);
  finish_piece<kMode, 3>(sum, p, maps, tile, places, me, bias, other);
}

}  // namespace imhotep::kernels::cuda::sm90
