#pragma once
// The engine of the decode kernels: y[rows, n] = x[rows, k] * w[n, k]^T for few rows (1 to 16 at
// once), bf16, where time is the time to read w.
//
// A block owns tiles of 8 weight rows. Its 8 warps divide k in chunks of 32, so that a warp reads
// what no other reads, and their sums meet in shared memory in a fixed order. A lane copies 16
// bytes (8 elements) of weight row lane / 4 at column 8 * (lane % 4) of each chunk into a ring of
// its own with cp.async, depth kDepth, and reads them back itself: no barriers, no bank conflicts,
// 32 to 64 KiB in flight a block. The same 16 bytes feed two mma.m16n8k16 steps: k may be permuted
// freely as long as activations (operand A, 8 rows a piece) use the same permutation.
// Only for the decode sources.

#include "kernels/cuda_common.cuh"
#include "kernels/cuda_launch.cuh"

namespace imhotep::kernels::cuda {

inline constexpr int kFewWarps = 8, kFewThreads = kFewWarps * kWarp;
inline constexpr int kTileRows = 8;  // weight rows of a tile, and rows of a piece of activations
inline constexpr int kChunk = 32;    // elements of k that a warp takes at once
inline constexpr int kPieceBytes = 512;  // 16 bytes a lane

__device__ inline std::uint32_t shared_address(const void* shared) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}
// 16 bytes to shared memory, zeros where not valid (then nothing is read).
__device__ inline void copy_async(std::uint32_t shared, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
// To the second-level cache: the line of `from`; `bytes`, a multiple of 16 as `from` is.
__device__ inline void prefetch_line(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from) : "memory");
}
__device__ inline void prefetch_bulk(const void* from, std::uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most `kPending` of the groups last committed are on their way.
template <int kPending>
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ inline uint4 load_shared(std::uint32_t shared) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(shared)
               : "memory");
  return v;
}
__device__ inline void store_shared(std::uint32_t shared, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}

// One chunk of 32: rows of `low` (0-7) and `high` (8-15) times the 8 weight rows of `w`.
__device__ inline void multiply_chunk(float (&sum)[4], const uint4& low, const uint4& high,
                                      const uint4& w) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(low.x), "r"(high.x), "r"(low.y), "r"(high.y), "r"(w.x), "r"(w.y));
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(low.z), "r"(high.z), "r"(low.w), "r"(high.w), "r"(w.z), "r"(w.w));
}

// Sizes of a block that takes kTiles weight tiles and kGroups pieces of activations at once.
// kRing: pieces of activations that go through the ring (0: they lie in shared memory already).
template <int kTiles, int kGroups, int kRing, int kInFlight = 64>
struct FewShape {
  static constexpr int kCols = kTiles * kTileRows;
  static constexpr int kPieces = kTiles + kRing;
  // Copies in flight: about kInFlight KiB of weights a block. Small blocks stay below half of a
  // multiprocessor's shared memory, so that the next kernel's first copies fit beside them.
  static constexpr int kWanted = (kInFlight << 10) / (kTiles * kPieceBytes * kFewWarps);
  static constexpr int kBudget = (kInFlight * 3 / 2) << 10;
  static constexpr int kFits = kBudget / (kPieces * kPieceBytes * kFewWarps);
  static constexpr int kDepth = kWanted < kFits ? kWanted : kFits;
  // Row pitch of partial sums in floats: 8 or 24 modulo 32, against bank conflicts.
  static constexpr int kPitch = kTiles == 1 ? 8 : kTiles <= 3 ? 24 : 40;
  static constexpr int kSumFloats = kFewWarps * kGroups * kTileRows * kPitch;
  static constexpr int kSumBytes = 4 * kSumFloats;
};

// The ring of one lane. A block whose warps need fewer slots than kDepth holds only those.
template <class Shape>
struct FewRing {
  std::uint32_t base;
  int slots;

  __device__ FewRing(const unsigned char* memory, int held) : slots(held) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp,
              lane = static_cast<int>(threadIdx.x) % kWarp;
    base = shared_address(memory) + warp * held * (Shape::kPieces * kPieceBytes) + lane * 16;
  }
  __device__ std::uint32_t piece(int slot, int index) const {
    return base + (slot * Shape::kPieces + index) * kPieceBytes;
  }
  __device__ int next(int slot) const { return slot + 1 == slots ? 0 : slot + 1; }
  [[nodiscard]] __host__ __device__ static constexpr int bytes(int held) {
    return held * Shape::kPieces * kPieceBytes * kFewWarps;
  }
};

// What a lane copies of a matrix, chunk after chunk: its 16 bytes of `valid` rows, 8 rows apart.
struct FewStrip {
  const Bf16* at = nullptr;
  int valid = 0;
};
// One chunk of kCount pieces; zeros where a row is not valid or `inside` is false. Addresses that
// are not read may point anywhere.
template <int kCount>
__device__ inline void copy_strip(std::uint32_t shared, FewStrip& strip, std::int64_t eight_rows,
                                  bool inside) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    copy_async(shared + j * kPieceBytes, strip.at + j * eight_rows, inside && j < strip.valid);
  }
  strip.at += kChunk;
}
// Pieces of 8 rows that begin at `row` and end before `rows`.
__device__ inline int pieces_from(int row, int rows) {
  return row < rows ? (rows - row + kTileRows - 1) / kTileRows : 0;
}

// Writes the sums of a warp where total_of finds them. Element (row, column) of the accumulators:
// row = lane / 4 (+ 8), column = 2 * (lane % 4) (+ 1).
template <class Shape, int kTiles>
__device__ inline void store_sums(float* to, const float (&sum)[kTiles][4], bool upper) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    float* at = to + lane / 4 * Shape::kPitch + j * kTileRows + 2 * (lane % 4);
    *reinterpret_cast<float2*>(at) = make_float2(sum[j][0], sum[j][1]);
    if (upper) {
      *reinterpret_cast<float2*>(at + kTileRows * Shape::kPitch) =
          make_float2(sum[j][2], sum[j][3]);
    }
  }
}

// The total of one element over the warps whose sums were stored.
template <class Shape, int kGroups, int kWarps = kFewWarps>
__device__ inline float total_of(const float* sums, int row, int col) {
  float total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    total += sums[(w * kGroups * kTileRows + row) * Shape::kPitch + col];
  }
  return total;
}

}  // namespace imhotep::kernels::cuda
