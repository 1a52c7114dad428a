#pragma once
// Attention over the positions that fall to a warp: keys and values come through a ring of the
// warp's own in shared memory, so that copies are in flight while it computes: each lane waits for
// what it copied itself, and for nobody else.

#include "kernels/attention_cached_state.cuh"
#include "kernels/few_rows.cuh"

namespace imhotep::kernels::cuda::paged {

inline constexpr int kRingLoads = 2;    // of keys, and as many of values, that a lane takes at once
inline constexpr int kRingStages = 2;   // kRingLoads each
inline constexpr int kStagesAhead = 2;  // beyond the ring, that are brought nearer early
inline constexpr int kRingBytes = kRingStages * kRingLoads * 2 * kPieceBytes;  // of a warp

// Pages hold what earlier calls brought: they may be read before the predecessors are done, which
// write what this call brings.
enum class Source { All, Pages, ThisCall };

// Where a warp copies from: the positions [begin, end) that fall to it, which is one of `parts`.
// Positions past the end are read as the last one and count nothing.
template <class T, int kDim>
struct RingWalk {
  using L = Lanes<T, kDim>;
  const Cached<T>& a;
  const Fresh& fresh;
  const std::int32_t* pages;
  int column, begin, end, first, mine, stride;  // first: of the warp's, from `begin`
  std::uint32_t ring;                           // of this lane

  __device__ RingWalk(const Cached<T>& arguments, const Fresh& rows, const std::int32_t* table)
      : a(arguments), fresh(rows), pages(table) {}
  [[nodiscard]] __device__ std::uint32_t piece(int stage, int load) const {
    return ring + (stage * kRingLoads + load) * 2 * kPieceBytes;
  }
  // All page numbers are asked for before the first is used, and there is no branch between here
  // and the copies, but for the positions of this call.
  template <Source kSource = Source::All>
  __device__ void fill(int base, int stage) const {
    if (base + first >= end) return;
    const bool some_fresh = base + kRingLoads * stride > fresh.oldest;
    if (kSource == Source::ThisCall && !some_fresh) return;
    int position[kRingLoads];
    std::int64_t at[kRingLoads];
#pragma unroll
    for (int i = 0; i < kRingLoads; ++i) {
      position[i] = min(base + i * stride + mine, end - 1);
      at[i] = a.slot(pages, position[i]) + column;
    }
#pragma unroll
    for (int i = 0; i < kRingLoads; ++i) {
      const T *k = a.k_pages + at[i], *v = a.v_pages + at[i];
      const std::int64_t here = some_fresh ? fresh_keys(a, fresh, position[i]) : -1;
      if (kSource == Source::Pages && here >= 0) continue;
      if (kSource == Source::ThisCall && here < 0) continue;
      if (here >= 0) {
        k = a.qkv + here + column;
        v = k + a.width;
      }
      copy_async(piece(stage, i), k, true);
      copy_async(piece(stage, i) + kPieceBytes, v, true);
    }
  }
};

template <class T>
__device__ Pack<T> pack_at(std::uint32_t shared) {
  const uint4 bits = load_shared(shared);
  return *reinterpret_cast<const Pack<T>*>(&bits);
}

// What of the ring, and a little beyond in the second-level cache, lies in pages: to be called
// before the predecessors are done.
template <class T, int kDim>
__device__ void begin_ring(const RingWalk<T, kDim>& w) {
  constexpr int kLine = 128;  // bytes of the cache
  constexpr int kLanesOfLine = kLine / static_cast<int>(sizeof(Pack<T>));
  const int step = kRingLoads * w.stride, lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int s = 0; s < kRingStages; ++s) w.template fill<Source::Pages>(w.begin + s * step, s);
  if (lane % kLanesOfLine != 0) return;
  for (int s = kRingStages; s < kRingStages + kStagesAhead; ++s) {
#pragma unroll
    for (int i = 0; i < kRingLoads; ++i) {
      const int position = w.begin + s * step + i * w.stride + w.mine;
      if (position >= min(w.end, w.fresh.oldest)) continue;
      const std::int64_t at = w.a.slot(w.pages, position) + w.column;
      prefetch_line(w.a.k_pages + at);
      prefetch_line(w.a.v_pages + at);
    }
  }
}

// `begun`: begin_ring has been called.
template <class T, int kDim>
__device__ State<Lanes<T, kDim>::kSize> walk_ring(const RingWalk<T, kDim>& w, const T* q,
                                                  bool begun) {
  using L = Lanes<T, kDim>;
  constexpr int kSize = L::kSize;
  const int step = kRingLoads * w.stride;
#pragma unroll
  for (int s = 0; s < kRingStages; ++s) {
    if (begun) {
      w.template fill<Source::ThisCall>(w.begin + s * step, s);
    } else {
      w.fill(w.begin + s * step, s);
    }
    commit_copies();  // the first group holds all that begin_ring has asked for
  }
  float query[kSize];
  const Pack<T> loaded = load_pack(q + w.column);
#pragma unroll
  for (int i = 0; i < kSize; ++i) query[i] = to_float(loaded.value[i]) * (w.a.scale * kLog2E);
  State<kSize> state;
  int stage = 0;
  for (int base = w.begin; base + w.first < w.end; base += step) {
    await_copies<kRingStages - 1>();
    float score[kRingLoads], most = state.high;
#pragma unroll
    for (int i = 0; i < kRingLoads; ++i) {
      const Pack<T> key = pack_at<T>(w.piece(stage, i));
      float dot = 0;
#pragma unroll
      for (int j = 0; j < kSize; ++j) dot = fmaf(query[j], to_float(key.value[j]), dot);
      score[i] = dot;
    }
#pragma unroll
    for (int lanes = L::kPerHead / 2; lanes > 0; lanes /= 2) {
#pragma unroll
      for (int i = 0; i < kRingLoads; ++i) {
        score[i] += __shfl_xor_sync(0xffffffffU, score[i], lanes);
      }
    }
#pragma unroll
    for (int i = 0; i < kRingLoads; ++i) {
      score[i] = base + i * w.stride + w.mine < w.end ? score[i] : -INFINITY;
      most = fmaxf(most, score[i]);
    }
    const float safe = most == -INFINITY ? 0 : most, keep = exp2f(state.high - safe);
    state.high = most;
    state.total *= keep;
#pragma unroll
    for (int j = 0; j < kSize; ++j) state.sum[j] *= keep;
#pragma unroll
    for (int i = 0; i < kRingLoads; ++i) {
      const Pack<T> value = pack_at<T>(w.piece(stage, i) + kPieceBytes);
      const float weight = exp2f(score[i] - safe);
      state.total += weight;
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        state.sum[j] = fmaf(weight, to_float(value.value[j]), state.sum[j]);
      }
    }
    w.fill(base + kRingStages * step, stage);
    commit_copies();
    stage = stage + 1 == kRingStages ? 0 : stage + 1;
  }
#pragma unroll
  for (int lanes = L::kPerHead; lanes < kWarp; lanes *= 2) {
    float other[kSize];
    const float high = __shfl_xor_sync(0xffffffffU, state.high, lanes);
    const float total = __shfl_xor_sync(0xffffffffU, state.total, lanes);
#pragma unroll
    for (int j = 0; j < kSize; ++j) other[j] = __shfl_xor_sync(0xffffffffU, state.sum[j], lanes);
    state.merge(high, total, other);
  }
  return state;
}

}  // namespace imhotep::kernels::cuda::paged
