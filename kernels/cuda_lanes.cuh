#pragma once
// Sixteen bytes of fp32 or bf16 at a time, worked on as floats, and the layout of kernels that give
// a block to a row. A kernel is written once over kStep elements an access: 16 bytes where the
// operands allow it, else a single element.

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "kernels/cuda_common.cuh"

namespace imhotep::kernels::cuda {

template <class T>
inline constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

template <int kStep>
struct Lanes {
  float at[kStep];
};

// What a load brings, not yet turned into floats: loads that run ahead keep few registers.
template <class T, int kStep>
struct Raw {
  uint4 bits;
  __device__ Lanes<kStep> lanes() const {
    Lanes<kStep> x;
    const unsigned word[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        x.at[i] = __uint_as_float(word[i]);
      } else {
        x.at[2 * i] = __uint_as_float(word[i] << 16);
        x.at[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000U);
      }
    }
    return x;
  }
};
template <class T>
struct Raw<T, 1> {
  T value;
  __device__ Lanes<1> lanes() const { return {{to_float(value)}}; }
};

template <class T, int kStep>
__device__ inline Raw<T, kStep> load_raw(const T* from) {
  if constexpr (kStep == 1) {
    return {*from};
  } else {
    static_assert(kStep == kLanes<T>);
    return {*reinterpret_cast<const uint4*>(from)};
  }
}
template <class T, int kStep>
__device__ inline Lanes<kStep> load_lanes(const T* from) {
  return load_raw<T, kStep>(from).lanes();
}

__device__ inline unsigned two_bf16(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&both);
}
template <class T, int kStep>
__device__ inline void store_lanes(T* to, const Lanes<kStep>& x) {
  if constexpr (kStep == 1) {
    *to = from_float<T>(x.at[0]);
  } else if constexpr (sizeof(T) == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(x.at[0], x.at[1], x.at[2], x.at[3]);
  } else {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(two_bf16(x.at[0], x.at[1]), two_bf16(x.at[2], x.at[3]),
                   two_bf16(x.at[4], x.at[5]), two_bf16(x.at[6], x.at[7]));
  }
}

// Whether rows of `width` elements of `bytes` each can be read 16 bytes at a time.
[[nodiscard]] inline bool sixteen(std::int64_t width, std::int64_t bytes,
                                  std::initializer_list<const void*> pointers) {
  std::uintptr_t low = static_cast<std::uintptr_t>(width * bytes);
  for (const void* pointer : pointers) low |= reinterpret_cast<std::uintptr_t>(pointer);
  return low % 16 == 0;
}

// Calls run(std::integral_constant<int, kStep>): 16 bytes of T where `whole`, else one element.
template <int kValue>
struct Step {
  static constexpr int value = kValue;
};
template <class T, class Run>
void by_step(bool whole, Run run) {
  if (whole) return run(Step<kLanes<T>>{});
  run(Step<1>{});
}

// A block a row that it keeps in registers: each thread holds kPacks accesses of kStep elements.
template <int kStepValue, int kPacksValue>
struct RowForm {
  static constexpr int kStep = kStepValue, kPacks = kPacksValue;
  static int threads(std::int64_t hidden) {
    return static_cast<int>(ceil_div(ceil_div(hidden, kStep * kPacks), kWarp) * kWarp);
  }
};
template <class T, int kMostThreads, class Run>
void by_row(const char* family, std::int64_t hidden, bool whole, Run run) {
  constexpr std::int64_t kOne = kMostThreads * kLanes<T>, kFew = 4;
  constexpr int kMany = 16384 / kMostThreads;
  if (whole && hidden <= kOne) return run(RowForm<kLanes<T>, 1>{});
  if (whole && hidden <= kFew * kOne) return run(RowForm<kLanes<T>, kFew>{});
  expect(hidden <= kMany * kMostThreads, family, "rows this wide have no CUDA kernel");
  run(RowForm<1, kMany>{});
}

// Blocks of a kernel that takes `items` one after another, `per_block` at once.
[[nodiscard]] inline unsigned blocks_for(std::int64_t items, std::int64_t per_block,
                                         std::int64_t most) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(items, per_block), 1, most));
}

}  // namespace imhotep::kernels::cuda
