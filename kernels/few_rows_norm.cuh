#pragma once
// Layer normalisation of what a warp will multiply (few_rows.cuh), inside the product's kernel.
// Only for the decode sources.

#include "core/base/shapes.h"
#include "kernels/few_rows.cuh"
#include "kernels/layer_norm.h"

namespace imhotep::kernels::cuda {

struct FewRowsTask {
  const Bf16 *x = nullptr, *gain = nullptr, *shift = nullptr;  // gain, shift: kNorm
  const Bf16 *w = nullptr, *bias = nullptr, *addend = nullptr;
  Bf16 *pre = nullptr, *c = nullptr;
  int rows = 0, n = 0, k = 0;
  int chunks = 0, items = 0;  // of k; of n, kTiles tiles each
  int slots = 0;              // of the ring
  Epilogue epilogue = Epilogue::None;
};

__device__ inline float2 unpack(std::uint32_t pair) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pair));
}
__device__ inline std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
__device__ inline float sum_of(uint4 v) {
  const float2 a = unpack(v.x), b = unpack(v.y), c = unpack(v.z), d = unpack(v.w);
  return ((a.x + a.y) + (b.x + b.y)) + ((c.x + c.y) + (d.x + d.y));
}
__device__ inline float squares_of(uint4 v, float mean) {
  const float2 a = unpack(v.x), b = unpack(v.y), c = unpack(v.z), d = unpack(v.w);
  const auto square = [mean](float x) { return (x - mean) * (x - mean); };
  return ((square(a.x) + square(a.y)) + (square(b.x) + square(b.y))) +
         ((square(c.x) + square(c.y)) + (square(d.x) + square(d.y)));
}
__device__ inline std::uint32_t normed(std::uint32_t x, std::uint32_t gain, std::uint32_t shift,
                                       float mean, float rstd) {
  const float2 v = unpack(x), a = unpack(gain), b = unpack(shift);
  return pack(a.x * (v.x - mean) * rstd + b.x, a.y * (v.y - mean) * rstd + b.y);
}
__device__ inline uint4 normed(uint4 x, uint4 gain, uint4 shift, float mean, float rstd) {
  return make_uint4(
      normed(x.x, gain.x, shift.x, mean, rstd), normed(x.y, gain.y, shift.y, mean, rstd),
      normed(x.z, gain.z, shift.z, mean, rstd), normed(x.w, gain.w, shift.w, mean, rstd));
}

// Sums over a block of one value a row of activations: lane / 4 is the row, the quad's lanes and
// the warps hold parts. Two barriers apart, `stats` [8 warps][kGroups * 8] may be used again.
template <int kGroups>
__device__ inline void sum_rows(float (&value)[kGroups], float* stats) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  constexpr int kRows = kGroups * kTileRows;
#pragma unroll
  for (int a = 0; a < kGroups; ++a) {
    value[a] += __shfl_xor_sync(0xffffffffU, value[a], 1);
    value[a] += __shfl_xor_sync(0xffffffffU, value[a], 2);
    if (lane % 4 == 0) stats[warp * kRows + a * kTileRows + lane / 4] = value[a];
  }
  __syncthreads();
#pragma unroll
  for (int a = 0; a < kGroups; ++a) {
    value[a] = 0;
    for (int w = 0; w < kFewWarps; ++w) value[a] += stats[w * kRows + a * kTileRows + lane / 4];
  }
}

// Which part of k a warp has.
struct FewPart {
  int first = 0, count = 0;  // chunks
  __device__ FewPart(int chunks, int own, int parts) {
    first = static_cast<int>(static_cast<std::int64_t>(chunks) * own / parts);
    count = static_cast<int>(static_cast<std::int64_t>(chunks) * (own + 1) / parts) - first;
  }
};

// Reads the warp's chunks of x, normalises them and leaves them at `acts` (pieces of 512 bytes,
// kGroups a chunk, each lane its own). gain and shift lie at `affine`: 64 + 64 bytes a chunk.
template <int kGroups>
__device__ void norm_rows(const FewRowsTask& p, const FewPart& part, std::uint32_t acts,
                          std::uint32_t affine, float* stats) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, quad = lane % 4;
  constexpr int kBatch = 8 / kGroups;  // loads in flight: registers
  const auto place = [&](int chunk, int a) {
    return acts + ((part.first + chunk) * kGroups + a) * kPieceBytes + lane * 16;
  };
  const auto inside = [&](int chunk) { return (part.first + chunk) * kChunk + 8 * quad < p.k; };
  float mean[kGroups] = {}, rstd[kGroups] = {};
  for (int c0 = 0; c0 < part.count; c0 += kBatch) {
    uint4 v[kBatch][kGroups];
#pragma unroll
    for (int c = 0; c < kBatch; ++c) {
#pragma unroll
      for (int a = 0; a < kGroups; ++a) {
        const int row = a * kTileRows + lane / 4;
        const bool valid = c0 + c < part.count && row < p.rows && inside(c0 + c);
        const auto* from = reinterpret_cast<const uint4*>(
            p.x + static_cast<std::int64_t>(row) * p.k + (part.first + c0 + c) * kChunk + 8 * quad);
        v[c][a] = valid ? __ldcg(from) : make_uint4(0, 0, 0, 0);
      }
    }
#pragma unroll
    for (int c = 0; c < kBatch; ++c) {
#pragma unroll
      for (int a = 0; a < kGroups; ++a) {
        if (c0 + c < part.count) store_shared(place(c0 + c, a), v[c][a]);
        mean[a] += sum_of(v[c][a]);
      }
    }
  }
  sum_rows<kGroups>(mean, stats);
  for (int a = 0; a < kGroups; ++a) mean[a] /= static_cast<float>(p.k);
  for (int c = 0; c < part.count; ++c) {
    for (int a = 0; a < kGroups; ++a) {
      if (inside(c)) rstd[a] += squares_of(load_shared(place(c, a)), mean[a]);
    }
  }
  sum_rows<kGroups>(rstd, stats + kFewWarps * kGroups * kTileRows);
  for (int a = 0; a < kGroups; ++a) {
    rstd[a] = rsqrtf(rstd[a] / static_cast<float>(p.k) + static_cast<float>(kLayerNormEpsilon));
  }
  for (int c = 0; c < part.count; ++c) {
    const std::uint32_t at = affine + (part.first + c) * 128 + quad * 16;
    const uint4 gain = load_shared(at), shift = load_shared(at + 64);
    for (int a = 0; a < kGroups; ++a) {
      store_shared(place(c, a), normed(load_shared(place(c, a)), gain, shift, mean[a], rstd[a]));
    }
  }
}

// gain and shift of the warp's chunks: 8 lanes a chunk.
__device__ inline void fetch_affine(const FewRowsTask& p, const FewPart& part,
                                    std::uint32_t affine) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int i = lane; i < part.count * 8; i += kWarp) {
    const int chunk = part.first + i / 8, col = chunk * kChunk + 8 * (i % 4);
    const Bf16* from = i % 8 < 4 ? p.gain : p.shift;
    copy_async(affine + chunk * 128 + i % 8 * 16, col < p.k ? from + col : from, col < p.k);
  }
}

}  // namespace imhotep::kernels::cuda
