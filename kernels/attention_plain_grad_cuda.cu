// The gradient of causal attention in fp32 arithmetic, from the log-sum-exp of the forward pass:
// one kernel for queries and one for keys and values, so that each sum belongs to one block. The
// thread mapping is in attention_plain.cuh.
// Source: Dao et al., "FlashAttention" (2022), algorithm 4.

#include "kernels/attention_plain.cuh"

namespace imhotep::kernels::cuda {
namespace plain {
namespace {

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

}  // namespace
}  // namespace plain

void plain_attention_grad(const Queue& queue, const AttentionGrad& shape,
                          const AttentionGradOperands& o) {
  using namespace plain;
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
