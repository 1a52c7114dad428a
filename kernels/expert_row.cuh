#pragma once
// A row of [T, experts] spread over a group of 8, 16 or 32 lanes, four neighbouring experts a lane
// and step, so that a row moves in 16-byte accesses and a warp holds 4, 2 or 1 tokens. Element v of
// lane l is expert 4 (v / 4 * lanes + l) + v % 4: ascending in v inside a lane.

#include "kernels/cuda_common.cuh"

namespace imhotep::kernels::cuda {

template <int kGroupLanes, int kGroupValues>
struct ExpertRow {
  static constexpr int kLanes = kGroupLanes;    // of a group
  static constexpr int kValues = kGroupValues;  // a lane
  static constexpr int kColumns = kLanes * kValues;
  // Registers for two rows, keys and sums decide how many threads a block can have.
  static constexpr int kThreads = kValues > 8 ? 256 : (kValues > 4 ? 512 : 1024);

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
  __device__ static int expert(int v) { return (v / 4 * kLanes + lane()) * 4 + v % 4; }
  __device__ static int lane_of(int expert) { return expert / 4 % kLanes; }

  // `vector`: experts is a multiple of 4 and the row is aligned to 16 bytes.
  __device__ static void load(const float* row, int experts, bool vector, float outside,
                              float (&value)[kValues]) {
#pragma unroll
    for (int v = 0; v < kValues; v += 4) {
      const int e = expert(v);
      if (vector && e < experts) {
        const float4 four = *reinterpret_cast<const float4*>(row + e);
        value[v] = four.x;
        value[v + 1] = four.y;
        value[v + 2] = four.z;
        value[v + 3] = four.w;
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) value[v + i] = e + i < experts ? row[e + i] : outside;
      }
    }
  }
  __device__ static void store(float* row, int experts, bool vector,
                               const float (&value)[kValues]) {
#pragma unroll
    for (int v = 0; v < kValues; v += 4) {
      const int e = expert(v);
      if (vector && e < experts) {
        *reinterpret_cast<float4*>(row + e) =
            make_float4(value[v], value[v + 1], value[v + 2], value[v + 3]);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (e + i < experts) row[e + i] = value[v + i];
        }
      }
    }
  }

  // Over the group; all lanes of the warp take part.
  __device__ static float sum(float x) {
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
    return x;
  }
  __device__ static unsigned max_of(unsigned x) {
    if constexpr (kLanes == kWarp) {
      return __reduce_max_sync(0xffffffffU, x);
    } else {
#pragma unroll
      for (int step = kLanes / 2; step > 0; step /= 2) {
        x = max(x, __shfl_xor_sync(0xffffffffU, x, step));
      }
      return x;
    }
  }
  __device__ static unsigned min_of(unsigned x) { return ~max_of(~x); }
  // The value of one expert, at every lane of the group.
  __device__ static float broadcast(const float (&value)[kValues], int of) {
    float mine = 0;
#pragma unroll
    for (int v = 0; v < kValues; ++v) mine = expert(v) == of ? value[v] : mine;
    return __shfl_sync(0xffffffffU, mine, lane_of(of), kLanes);
  }
};

// Calls run(ExpertRow{}) of the smallest row that holds the experts.
template <class Run>
void by_experts(std::int64_t experts, Run run) {
  if (experts <= 32) return run(ExpertRow<8, 4>{});
  if (experts <= 64) return run(ExpertRow<16, 4>{});
  if (experts <= 128) return run(ExpertRow<32, 4>{});
  if (experts <= 256) return run(ExpertRow<32, 8>{});
  return run(ExpertRow<32, 32>{});
}

[[nodiscard]] inline bool rows_align(std::int64_t experts, const void* a, const void* b) {
  const auto address = reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b);
  return experts % 4 == 0 && address % 16 == 0;
}

}  // namespace imhotep::kernels::cuda
