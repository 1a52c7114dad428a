// Causal attention and its gradient by tiles of 32 rows, in fp32 arithmetic: exact and simple.
// A block of 256 threads owns a tile of 32 rows of one head (queries; in the gradient of keys and
// values: keys). Eight neighbouring threads share a row: of a 32 x 32 tile of scores each holds
// four columns, of a result row every eighth element. The block walks over the tiles of the other
// side in a fixed order, so results do not depend on timing. Tiles lie in shared memory with rows
// of head_dim + 1 floats, so that the eight threads of a row meet eight banks.

#include <cmath>

#include "kernels/attention_cuda.h"
#include "kernels/cuda_common.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kTile = 32;  // rows and columns of a tile of scores
constexpr int kShare = 8;  // threads of a row
constexpr int kThreads = kTile * kShare;
constexpr int kColumns = kTile / kShare;  // scores of a thread
constexpr int kMaxDim = 256;
constexpr int kParts = kMaxDim / kShare;  // elements of a result row of a thread

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
__device__ Head head_of(const Sizes& s, std::int64_t item) {
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
__device__ void products(const float* row, const float* columns, int column, int dim,
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
__device__ void add_rows(const float* weights, const float* rows, int column, int dim,
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

__device__ float sum_of_row(float x) {
  for (int lanes = kShare / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffU, x, lanes);
  return x;
}
__device__ float max_of_row(float x) {
  for (int lanes = kShare / 2; lanes > 0; lanes /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, lanes));
  }
  return x;
}

// Online softmax over tiles of keys up to the tile of the queries.
template <class T>
__global__ void __launch_bounds__(kThreads) attend(Sizes s, const T* qkv, T* ctx, float* lse) {
  extern __shared__ float shared[];
  float *q = shared, *k = q + kTile * (s.dim + 1), *v = k + kTile * (s.dim + 1),
        *weights = v + kTile * (s.dim + 1);
  const Head h = head_of(s, blockIdx.y);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int row = static_cast<int>(threadIdx.x) / kShare,
            column = static_cast<int>(threadIdx.x) % kShare;
  float high = -INFINITY, total = 0, sum[kParts] = {};
  load_tile(qkv + h.q, h.packed, first, s, q);
  for (std::int64_t keys = 0; keys <= first; keys += kTile) {
    __syncthreads();  // the previous tile is used up
    load_tile(qkv + h.k, h.packed, keys, s, k);
    load_tile(qkv + h.v, h.packed, keys, s, v);
    __syncthreads();
    float score[kColumns];
    products(q + row * (s.dim + 1), k, column, s.dim, score);
    float most = high;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const bool seen = keys + column + i * kShare <= first + row;
      score[i] = seen ? score[i] * s.scale : -INFINITY;
      most = fmaxf(most, score[i]);
    }
    most = max_of_row(most);  // finite: the tile holds a key that the row sees
    const float keep = expf(high - most);
    float part = 0;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const float weight = expf(score[i] - most);
      weights[row * (kTile + 1) + column + i * kShare] = weight;
      part += weight;
    }
    total = total * keep + sum_of_row(part);
    high = most;
#pragma unroll
    for (int i = 0; i < kParts; ++i) sum[i] *= keep;
    __syncwarp();  // a row's weights are shared by eight threads of one warp
    add_rows(weights + row * (kTile + 1), v, column, s.dim, sum);
  }
  if (first + row >= s.sequence) return;
  store_row(ctx + h.ctx + (first + row) * h.plain, column, s.dim, 1 / total, sum);
  if (column == 0) lse[h.row + first + row] = high + logf(total);
}

// delta[head, row] = <ctx, dctx>: one warp a row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    row_dots(Sizes s, std::int64_t rows, const T* ctx, const T* dctx, float* delta) {
  const std::int64_t index =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (index >= rows) return;
  const Head h = head_of(s, index / s.sequence);
  const std::int64_t at = h.ctx + index % s.sequence * h.plain;
  float dot = 0;
  for (int d = lane; d < s.dim; d += kWarp) {
    dot = fmaf(to_float(ctx[at + d]), to_float(dctx[at + d]), dot);
  }
  dot = warp_sum(dot);
  if (lane == 0) delta[index] = dot;
}

template <class T>
struct Gradient {
  const T *qkv = nullptr, *dctx = nullptr;
  const float *lse = nullptr, *delta = nullptr;
  T* dqkv = nullptr;
};

// dq = scale * sum over keys of p (<dctx, v> - delta) k.
template <class T>
__global__ void __launch_bounds__(kThreads) query_gradient(Sizes s, Gradient<T> g) {
  extern __shared__ float shared[];
  const int size = kTile * (s.dim + 1);
  float *q = shared, *d = q + size, *k = d + size, *v = k + size, *weights = v + size;
  const Head h = head_of(s, blockIdx.y);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int row = static_cast<int>(threadIdx.x) / kShare,
            column = static_cast<int>(threadIdx.x) % kShare;
  const bool inside = first + row < s.sequence;
  const float lse = inside ? g.lse[h.row + first + row] : 0;
  const float delta = inside ? g.delta[h.row + first + row] : 0;
  float sum[kParts] = {};
  load_tile(g.qkv + h.q, h.packed, first, s, q);
  load_tile(g.dctx + h.ctx, h.plain, first, s, d);
  for (std::int64_t keys = 0; keys <= first; keys += kTile) {
    __syncthreads();
    load_tile(g.qkv + h.k, h.packed, keys, s, k);
    load_tile(g.qkv + h.v, h.packed, keys, s, v);
    __syncthreads();
    float score[kColumns], slope[kColumns];
    products(q + row * (s.dim + 1), k, column, s.dim, score);
    products(d + row * (s.dim + 1), v, column, s.dim, slope);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const bool seen = inside && keys + column + i * kShare <= first + row;
      const float p = seen ? expf(score[i] * s.scale - lse) : 0;
      weights[row * (kTile + 1) + column + i * kShare] = p * (slope[i] - delta);
    }
    __syncwarp();
    add_rows(weights + row * (kTile + 1), k, column, s.dim, sum);
  }
  if (inside) store_row(g.dqkv + h.q + (first + row) * h.packed, column, s.dim, s.scale, sum);
}

// dv = sum over queries of p dctx, dk = scale * sum over queries of p (<dctx, v> - delta) q.
template <class T>
__global__ void __launch_bounds__(kThreads) key_gradient(Sizes s, Gradient<T> g) {
  extern __shared__ float shared[];
  const int size = kTile * (s.dim + 1);
  float *q = shared, *d = q + size, *k = d + size, *v = k + size, *weights = v + size,
        *slopes = weights + kTile * (kTile + 1);
  const Head h = head_of(s, blockIdx.y);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int row = static_cast<int>(threadIdx.x) / kShare,
            column = static_cast<int>(threadIdx.x) % kShare;
  float dk[kParts] = {}, dv[kParts] = {};
  load_tile(g.qkv + h.k, h.packed, first, s, k);
  load_tile(g.qkv + h.v, h.packed, first, s, v);
  for (std::int64_t queries = first; queries < s.sequence; queries += kTile) {
    __syncthreads();
    load_tile(g.qkv + h.q, h.packed, queries, s, q);
    load_tile(g.dctx + h.ctx, h.plain, queries, s, d);
    __syncthreads();
    float score[kColumns], slope[kColumns];
    products(k + row * (s.dim + 1), q, column, s.dim, score);
    products(v + row * (s.dim + 1), d, column, s.dim, slope);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const std::int64_t query = queries + column + i * kShare;
      const bool seen = query < s.sequence && first + row <= query;
      const float p = seen ? expf(score[i] * s.scale - g.lse[h.row + query]) : 0;
      const float delta = seen ? g.delta[h.row + query] : 0;
      weights[row * (kTile + 1) + column + i * kShare] = p;
      slopes[row * (kTile + 1) + column + i * kShare] = p * (slope[i] - delta);
    }
    __syncwarp();
    add_rows(weights + row * (kTile + 1), d, column, s.dim, dv);
    add_rows(slopes + row * (kTile + 1), q, column, s.dim, dk);
  }
  if (first + row >= s.sequence) return;
  store_row(g.dqkv + h.k + (first + row) * h.packed, column, s.dim, s.scale, dk);
  store_row(g.dqkv + h.v + (first + row) * h.packed, column, s.dim, 1.0F, dv);
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

}  // namespace

void plain_attention(const Queue& queue, const Attention& shape, const AttentionOperands& o) {
  by_type(queue, "attention", [&](auto zero) {
    using T = decltype(zero);
    const Sizes s = sizes_of(shape);
    const unsigned bytes = shared_bytes(attend<T>, s.dim, 3, 1);
    attend<T><<<grid_of(shape), kThreads, bytes, stream_of(queue)>>>(
        s, static_cast<const T*>(o.qkv), static_cast<T*>(o.ctx), static_cast<float*>(o.lse));
    IMHOTEP_LAUNCHED("attention");
  });
}

void plain_attention_grad(const Queue& queue, const AttentionGrad& shape,
                          const AttentionGradOperands& o) {
  by_type(queue, "attention_grad", [&](auto zero) {
    using T = decltype(zero);
    const Sizes s = sizes_of(shape);
    const std::int64_t rows = shape.batch * shape.heads * shape.sequence;
    expect(rows * 4 <= queue.workspace_bytes, "attention_grad",
           "the workspace does not hold a float for each row and head");
    auto* delta = static_cast<float*>(queue.workspace);
    const Gradient<T> g{.qkv = static_cast<const T*>(o.qkv),
                        .dctx = static_cast<const T*>(o.dctx),
                        .lse = static_cast<const float*>(o.lse),
                        .delta = delta,
                        .dqkv = static_cast<T*>(o.dqkv)};
    const auto blocks = static_cast<unsigned>(ceil_div(rows, kThreads / kWarp));
    row_dots<T><<<blocks, kThreads, 0, stream_of(queue)>>>(s, rows, static_cast<const T*>(o.ctx),
                                                           g.dctx, delta);
    IMHOTEP_LAUNCHED("attention_grad: row dots");
    const unsigned for_queries = shared_bytes(query_gradient<T>, s.dim, 4, 1);
    query_gradient<T><<<grid_of(shape), kThreads, for_queries, stream_of(queue)>>>(s, g);
    IMHOTEP_LAUNCHED("attention_grad: queries");
    const unsigned for_keys = shared_bytes(key_gradient<T>, s.dim, 4, 2);
    key_gradient<T><<<grid_of(shape), kThreads, for_keys, stream_of(queue)>>>(s, g);
    IMHOTEP_LAUNCHED("attention_grad: keys");
  });
}

}  // namespace imhotep::kernels::cuda
