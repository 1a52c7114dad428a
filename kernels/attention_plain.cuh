#pragma once
// Parts of causal attention and its gradient by tiles of 32 rows, in fp32 arithmetic: exact and
// simple. A block of 256 threads owns a tile of 32 rows of one head (queries; in the gradient of
// keys and values: keys). Eight neighbouring threads share a row: of a 32 x 32 tile of scores each
// holds four columns, of a result row every eighth element. The block walks over the tiles of the
// other side in a fixed order, so results do not depend on timing. Tiles lie in shared memory with
// rows of head_dim + 1 floats, so that the eight threads of a row meet eight banks.

#include <cmath>

#include "kernels/attention_cuda.h"
#include "kernels/cuda_common.cuh"

namespace imhotep::kernels::cuda::plain {

inline constexpr int kTile = 32;  // rows and columns of a tile of scores
inline constexpr int kShare = 8;  // threads of a row
inline constexpr int kThreads = kTile * kShare;
inline constexpr int kColumns = kTile / kShare;  // scores of a thread
inline constexpr int kMaxDim = 256;
inline constexpr int kParts = kMaxDim / kShare;  // elements of a result row of a thread

struct Sizes {
  std::int64_t heads = 0, sequence = 0;
  int dim = 0;
  float scale = 0;
};

// One head: row t of q is at q + t * packed, row t of ctx at ctx + t * plain.
struct Head {
  std::int64_t q = 0, k = 0, v = 0, ctx = 0, row = 0;  // offsets of element 0 of the sequence
  std::int64_t packed = 0, plain = 0;
};
__device__ inline Head head_of(const Sizes& s, std::int64_t item) {
  const std::int64_t width = s.heads * s.dim, token = item / s.heads * s.sequence;
  const std::int64_t column = item % s.heads * s.dim;
  Head h{.packed = 3 * width, .plain = width};
  h.q = token * h.packed + column;
  h.k = h.q + width;
  h.v = h.k + width;
  h.ctx = token * h.plain + column;
  h.row = item * s.sequence;
  return h;
}

// Rows [first, first + 32) of a head into shared memory; rows after the last are zero.
template <class T>
__device__ void load_tile(const T* from, std::int64_t stride, std::int64_t first, const Sizes& s,
                          float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * s.dim; i += kThreads) {
    const int row = i / s.dim, column = i % s.dim;
    const bool inside = first + row < s.sequence;
    to[row * (s.dim + 1) + column] =
        inside ? to_float(from[(first + row) * stride + column]) : 0.0F;
  }
}

// Dot products of one row with the thread's four columns.
__device__ inline void products(const float* row, const float* columns, int column, int dim,
                                float (&out)[kColumns]) {
  for (int i = 0; i < kColumns; ++i) out[i] = 0;
  for (int d = 0; d < dim; ++d) {
    const float x = row[d];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      out[i] = fmaf(x, columns[(column + i * kShare) * (dim + 1) + d], out[i]);
    }
  }
}

// sum += weights of one row x rows of a tile, at every eighth element.
__device__ inline void add_rows(const float* weights, const float* rows, int column, int dim,
                                float (&sum)[kParts]) {
  for (int j = 0; j < kTile; ++j) {
    const float weight = weights[j];
    const float* row = rows + j * (dim + 1);
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      if (i * kShare >= dim) break;
      if (column + i * kShare < dim) sum[i] = fmaf(weight, row[column + i * kShare], sum[i]);
    }
  }
}

template <class T>
__device__ void store_row(T* to, int column, int dim, float factor, const float (&sum)[kParts]) {
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    if (column + i * kShare < dim) to[column + i * kShare] = from_float<T>(sum[i] * factor);
  }
}

__device__ inline float sum_of_row(float x) {
  for (int lanes = kShare / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffU, x, lanes);
  return x;
}
__device__ inline float max_of_row(float x) {
  for (int lanes = kShare / 2; lanes > 0; lanes /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, lanes));
  }
  return x;
}

template <class Shape>
Sizes sizes_of(const Shape& s) {
  expect(s.head_dim <= kMaxDim, "attention", "head_dim above 256 has no CUDA kernel");
  constexpr std::int64_t kGridLimit = 65535;
  expect(s.batch * s.heads <= kGridLimit, "attention",
         "more than 65535 heads in a call have no CUDA kernel for this type and head_dim");
  return {.heads = s.heads,
          .sequence = s.sequence,
          .dim = static_cast<int>(s.head_dim),
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_dim)))};
}

// Tiles of rows and tiles of scores. Above 48 KB a kernel must be told that it may.
template <class Kernel>
unsigned shared_bytes(Kernel kernel, int dim, int tiles, int scores) {
  const int bytes = 4 * kTile * (tiles * (dim + 1) + scores * (kTile + 1));
  IMHOTEP_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  return static_cast<unsigned>(bytes);
}

template <class Shape>
dim3 grid_of(const Shape& s) {
  return {static_cast<unsigned>(ceil_div(s.sequence, kTile)),
          static_cast<unsigned>(s.batch * s.heads)};
}

}  // namespace imhotep::kernels::cuda::plain
