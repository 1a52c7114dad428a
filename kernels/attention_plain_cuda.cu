// Causal attention in fp32 arithmetic; the thread mapping is in attention_plain.cuh.

#include "kernels/attention_plain.cuh"

namespace imhotep::kernels::cuda {
namespace plain {
namespace {

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

}  // namespace
}  // namespace plain

void plain_attention(const Queue& queue, const Attention& shape, const AttentionOperands& o) {
  using namespace plain;
  by_type(queue, "attention", [&](auto zero) {
    using T = decltype(zero);
    const Sizes s = sizes_of(shape);
    const unsigned bytes = shared_bytes(attend<T>, s.dim, 3, 1);
    attend<T><<<grid_of(shape), kThreads, bytes, stream_of(queue)>>>(
        s, static_cast<const T*>(o.qkv), static_cast<T*>(o.ctx), static_cast<float*>(o.lse));
    IMHOTEP_LAUNCHED("attention");
  });
}

}  // namespace imhotep::kernels::cuda
