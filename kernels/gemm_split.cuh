#pragma once
// Tiles of the router's products: read from memory, split into bf16 parts in shared memory, and
// multiplied by tensor cores. What the parts are for: gemm_mixed_cuda.cu, the only user.

#include "kernels/cuda_lanes.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarpTile = 32;

enum class Form { Forward, WeightGrad, InputGrad };

// Where column n (of 32) of c sits among the columns that are multiplied: lane quad t of a warp
// holds columns 2t and 2t + 1 of each of four products, which are columns 8t .. 8t + 7 of c.
__device__ constexpr int seat(int n) {
  return (n & ~31) | (((n & 7) >> 1) << 3) | (((n & 31) >> 3) << 1) | (n & 1);
}

// A tile of an operand, rows x columns as it lies in memory.
template <class TypeOf, int kRowsOf, int kColumnsOf, int kPartsOf, bool kSeatRows,
          bool kSeatColumns>
struct Tile {
  using T = TypeOf;
  static constexpr int kParts = kPartsOf, kStep = kLanes<T>;
  static constexpr int kAcross = kColumnsOf / kStep;
  static constexpr int kEach = kRowsOf * kAcross / kThreads;
  static constexpr int kStride = kColumnsOf + 8;  // rows start in different banks
  static constexpr int kPart = kRowsOf * kStride;
  static constexpr int kElements = kParts * kPart;

  Raw<T, kStep> held[kEach];

  __device__ void load(const T* from, std::int64_t row0, std::int64_t column0, std::int64_t rows,
                       std::int64_t columns, std::int64_t width, bool whole) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int index = i * kThreads + static_cast<int>(threadIdx.x);
      const std::int64_t row = row0 + index / kAcross, column = column0 + index % kAcross * kStep;
      held[i] = {};
      if (row >= rows || column >= columns) continue;
      const T* at = from + row * width + column;
      if (whole) {
        held[i] = load_raw<T, kStep>(at);
      } else {
        alignas(16) T some[kStep];
#pragma unroll
        for (int j = 0; j < kStep; ++j) {
          some[j] = column + j < columns ? at[j] : from_float<T>(0.0F);
        }
        held[i] = load_raw<T, kStep>(some);
      }
    }
  }
  // Splits what is held into parts, largest first.
  __device__ void store(Bf16* to) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int index = i * kThreads + static_cast<int>(threadIdx.x);
      int row = index / kAcross;
      const int column = index % kAcross * kStep;
      if constexpr (kSeatRows) row = seat(row);
      Lanes<kStep> left = held[i].lanes();
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        Bf16* at = to + part * kPart + row * kStride;
#pragma unroll
        for (int j = 0; j < kStep; j += 2) {
          const __nv_bfloat162 two = __floats2bfloat162_rn(left.at[j], left.at[j + 1]);
          left.at[j] -= __low2float(two);
          left.at[j + 1] -= __high2float(two);
          const int place = kSeatColumns ? seat(column + j) : column + j;
          *reinterpret_cast<__nv_bfloat162*>(at + place) = two;
        }
      }
    }
  }
};

template <Form kForm>
struct FormOf;
template <>
struct FormOf<Form::Forward> {
  static constexpr int kM = 128, kN = 64, kDepth = 64, kOrder = 2;
  static constexpr bool kAByDepth = false, kBByDepth = false;  // rows of the tile are depth
  static constexpr bool kFresh = true;                         // each step is summed from zero
  static constexpr int kBlocksPerSm = 1;
  using A = Tile<Bf16, kM, kDepth, 1, false, false>;
  using B = Tile<float, kN, kDepth, 3, true, false>;
  using C = float;
};
template <>
struct FormOf<Form::WeightGrad> {
  static constexpr int kM = 64, kN = 128, kDepth = 64, kOrder = 2;
  static constexpr bool kAByDepth = true, kBByDepth = true, kFresh = true;
  static constexpr int kBlocksPerSm = 1;
  using A = Tile<float, kDepth, kM, 3, false, false>;
  using B = Tile<Bf16, kDepth, kN, 1, false, true>;
  using C = float;
};
template <>
struct FormOf<Form::InputGrad> {
  static constexpr int kM = 128, kN = 64, kDepth = 32, kOrder = 1;
  static constexpr bool kAByDepth = false, kBByDepth = true, kFresh = false;
  static constexpr int kBlocksPerSm = 2;  // c is most of the work: its latency must be hidden
  using A = Tile<float, kM, kDepth, 2, false, false>;
  using B = Tile<float, kDepth, kN, 2, false, true>;
  using C = Bf16;
};

template <bool kTransposed>
__device__ inline void load_matrices(unsigned (&to)[4], const Bf16* from) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(from));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
}

// c[16, 8] += a[16, 16] b[16, 8].
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                    unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

using Sums = float[2][4][4];  // of a warp: 2 x 16 rows, 4 x 8 columns

// One depth step of a warp: rows from m, columns from n of the tiles.
template <class F>
__device__ inline void multiply_step(const Bf16* a, const Bf16* b, int m, int n, Sums& total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int group = lane / 8, in_group = lane % 8;
  const int low = (group & 1) * 8 + in_group, high = (group >> 1) * 8;  // of 16 x 16 elements
  const int other = (group >> 1) * 8 + in_group, odd = (group & 1) * 8;
  Sums fresh = {};
  Sums& sum = F::kFresh ? fresh : total;
#pragma unroll
  for (int depth = 0; depth < F::kDepth; depth += 16) {
#pragma unroll
    for (int part_a = F::A::kParts - 1; part_a >= 0; --part_a) {
      unsigned of_a[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = m + 16 * i;
        const int at = F::kAByDepth ? (depth + other) * F::A::kStride + row + odd
                                    : (row + low) * F::A::kStride + depth + high;
        load_matrices<F::kAByDepth>(of_a[i], a + part_a * F::A::kPart + at);
      }
#pragma unroll
      for (int part_b = F::B::kParts - 1; part_b >= 0; --part_b) {
        if (part_a + part_b > F::kOrder) continue;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          unsigned of_b[4];
          const int column = n + 16 * j;
          const int at = F::kBByDepth ? (depth + low) * F::B::kStride + column + high
                                      : (column + other) * F::B::kStride + depth + odd;
          load_matrices<F::kBByDepth>(of_b, b + part_b * F::B::kPart + at);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            multiply_add(sum[i][2 * j], of_a[i], of_b[0], of_b[1]);
            multiply_add(sum[i][2 * j + 1], of_a[i], of_b[2], of_b[3]);
          }
        }
      }
    }
  }
  if constexpr (F::kFresh) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) total[i][j][e] += fresh[i][j][e];
      }
    }
  }
}

}  // namespace
}  // namespace imhotep::kernels::cuda
