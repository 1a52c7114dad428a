#pragma once
// The epilogue of the grouped product for compute capability 9.0a. A warpgroup holds 64 of M by up
// to 256 of N in registers and passes them on in pieces of 64 by 64: bias, GELU or its slope in
// registers, bf16 through a staging buffer (matrix stores, transposed where M is the inner
// dimension of the result), then lines of 128 bytes, 16 a thread, to memory. A matrix that is read
// (pre-activations, old gradients) takes the same way in the other direction.
// Staging: 64 lines of 128 bytes; chunk c of line l lies at c ^ (l % 8), free of bank conflicts.

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
  std::uint32_t matrix;    // staging address of this lane's line of the first 16 by 16
  std::uint32_t chunk;     // of the first of its four chunks of 16 bytes; the next are 16 lines on
  std::int64_t first;      // element of the result that belongs to that chunk
  std::int64_t line_step;  // elements from a line to the next
  int line, extent;        // of N: lines or columns that exist in this tile
  int turn, unit;

  __device__ Places(const Product& p, const Tile& tile, int m, const Consumer& me,
                    std::uint32_t staging) {
    const int quarter = me.lane / 8;
    turn = me.lane % 8;
    line = me.thread / 8;
    const int column = me.thread % 8;
    chunk = staging + line * 128 + ((column ^ (line % 8)) << 4);
    if constexpr (kTransposed) {
      unit = 2 * me.warp + quarter % 2;
      matrix = staging + (8 * (quarter / 2) + turn) * 128;
      line_step = p.m;
      first = (std::int64_t{tile.first_row} + line) * line_step + m + 8 * column;
      extent = tile.rows;
    } else {
      unit = quarter / 2;
      matrix = staging + (16 * me.warp + 8 * (quarter % 2) + turn) * 128;
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
  __device__ bool exists(int piece, int part) const {
    return !kTransposed || 64 * piece + 16 * part + line < extent;
  }
  __device__ std::int64_t element(int piece, int part) const {
    return first + (kTransposed ? (64 * piece + 16 * part) * line_step
                                : 64 * piece + 16 * part * line_step);
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
        *reinterpret_cast<uint4*>(to + element(piece, part)) =
            load_shared(chunk + buffer + 2048 * part);
      }
    }
  }
};

// What becomes of 8 sums (16 of N, one lane): the values to store, through registers.
template <GroupedMode kMode>
__device__ __forceinline__ void apply(const Product& p, std::uint32_t second, float bias_low, float bias_high,
                      float (&v)[8]) {
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

// 64 of N. `other`: this piece of the matrix that is read; leaves the next.
template <GroupedMode kMode, int kPiece>
__device__ __forceinline__ void finish_piece(const float (&sum)[128], const Product& p,
                                             const PlacesOf<kMode>& places, const Consumer& me,
                                             float bias_low, float bias_high, uint4 (&other)[4]) {
  if (64 * kPiece >= places.extent) return;
  if (kMode != GroupedMode::Forward && p.other != nullptr) {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      store_shared(places.chunk + kBlockBytes + 2048 * part, other[part]);
    }
    if (64 * (kPiece + 1) < places.extent) places.read(p.other, kPiece + 1, other);
  }
  named_barrier(1 + me.group, kGroupThreads);  // the buffers are filled, or free again
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = sum[32 * kPiece + 8 * pair + i];
    apply<kMode>(p, places.matrix_at(pair) + kBlockBytes, bias_low, bias_high, v);
    std::uint32_t r[4];
    pack(v, r);
    store_matrices<kMode != GroupedMode::GradWeight>(places.matrix_at(pair), r);
  }
  named_barrier(1 + me.group, kGroupThreads);
  places.write(p.out, kPiece, 0);
  if (kMode == GroupedMode::Forward && p.gelu && p.pre != nullptr) {
    places.write(p.pre, kPiece, kBlockBytes);
  }
}

template <GroupedMode kMode>
__device__ __forceinline__ void finish_tile(const float (&sum)[128], const Product& p,
                                            const Tile& tile, const Consumer& me,
                                            std::uint32_t staging) {
  const int m = tile.m + 64 * me.group;
  if (m >= p.m) return;
  const PlacesOf<kMode> places(p, tile, m, me, staging);
  float bias_low = 0, bias_high = 0;
  if (kMode == GroupedMode::Forward && p.bias != nullptr) {
    const Bf16* bias = p.bias + std::int64_t{tile.expert} * p.m + m + 16 * me.warp + me.lane / 4;
    bias_low = to_float(bias[0]);
    bias_high = to_float(bias[8]);
  }
  uint4 other[4] = {};
  if (kMode != GroupedMode::Forward && p.other != nullptr) places.read(p.other, 0, other);
  finish_piece<kMode, 0>(sum, p, places, me, bias_low, bias_high, other);
  finish_piece<kMode, 1>(sum, p, places, me, bias_low, bias_high, other);
  finish_piece<kMode, 2>(sum, p, places, me, bias_low, bias_high, other);
  finish_piece<kMode, 3>(sum, p, places, me, bias_low, bias_high, other);
}

}  // namespace imhotep::kernels::cuda::sm90
