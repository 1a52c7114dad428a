#pragma once
// What a warp of the decode kernel keeps: which positions this call brings itself, an online
// softmax over the positions that fall to the warp, and how such results are merged. See
// attention_cached_ring.cuh and attention_cached_rows_cuda.cu.

#include <climits>

#include "kernels/attention_cached.cuh"

namespace imhotep::kernels::cuda::paged {

inline constexpr float kLog2E = 1.4426950408889634F;

// Rows of this call that belong to the same sequence, up to the row's own position.
struct Fresh {
  int count, oldest;  // the least of their positions
  int position[kFreshRows], row[kFreshRows];
};

template <class T>
__device__ void find_fresh(const Cached<T>& a, std::int32_t sequence, int length, Fresh& fresh) {
  if (threadIdx.x == 0) {
    fresh.count = 0;
    fresh.oldest = INT_MAX;
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x);
  if (row < a.rows && a.sequences[row] == sequence) {
    const int own = a.length(row);
    if (own > 0 && own <= length) {
      const int at = atomicAdd(&fresh.count, 1), position = own - 1;
      fresh.position[at] = position;
      fresh.row[at] = row;
      atomicMin(&fresh.oldest, position);
    }
  }
  __syncthreads();
}

// Offset of the keys of a position in qkv, or -1 when they lie in a page.
template <class T>
__device__ std::int64_t fresh_keys(const Cached<T>& a, const Fresh& fresh, int position) {
  for (int i = 0; i < fresh.count; ++i) {
    if (fresh.position[i] == position) return fresh.row[i] * 3 * a.width + a.width;
  }
  return -1;
}

// The state of an online softmax over some positions: scores are in units of log 2.
template <int kSize>
struct State {
  float high = -INFINITY, total = 0, sum[kSize] = {};

  __device__ void merge(float other_high, float other_total, const float (&other)[kSize]) {
    const float most = fmaxf(high, other_high), base = most == -INFINITY ? 0 : most;
    const float keep = exp2f(high - base), add = exp2f(other_high - base);
    total = total * keep + other_total * add;
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum[i] = sum[i] * keep + other[i] * add;
    high = most;
  }
};

template <class T, int kDim>
struct Lanes {
  static constexpr int kSize = Pack<T>::kSize;         // elements of a lane
  static constexpr int kPerHead = kDim / kSize;        // lanes of a position
  static constexpr int kPositions = kWarp / kPerHead;  // positions of a warp's load
};

// What a warp, and then a block, knows of one head.
template <int kDim>
struct Partial {
  float sum[kDim], high, total;
};

// Merges element `column` of `count` partials, `step` apart, in their order.
template <int kDim>
__device__ State<1> gather(const Partial<kDim>* partials, int count, int step, int column) {
  State<1> state;
  for (int i = 0; i < count; ++i) {
    const Partial<kDim>& p = partials[i * step];
    const float sum[1] = {p.sum[column]};
    state.merge(p.high, p.total, sum);
  }
  return state;
}

}  // namespace imhotep::kernels::cuda::paged
