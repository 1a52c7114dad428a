#pragma once
// wgmma m64nNk16, bf16 operands from shared memory, fp32 accumulators, for N = 16 to 256 in steps
// of 16, and the descriptors of the two operand layouts used, both with the 128-byte swizzle that
// TMA writes: inside each 1024-byte atom (8 lines of 128 bytes) the 16-byte chunk c of line l lies
// at chunk c ^ l.
//   K-major   a line holds 64 consecutive elements of the reduction for one m (or n); lines are
//             consecutive m. Between atoms of 8 m: "stride offset" = 1024 bytes. The leading offset
//             is not used. The next 16 elements of the reduction are 32 bytes further.
//   MN-major  a line holds 64 consecutive m (or n) for one element of the reduction; lines are
//             consecutive elements of the reduction. Between atoms of 8 of them: "stride offset" =
//             1024 bytes; between blocks of 64 m: "leading offset" = the bytes of a block. The
//             next 16 elements of the reduction are 2048 bytes further.
// Descriptor: bits 0-13 address / 16, 16-29 leading offset / 16, 32-45 stride offset / 16, 49-51
// base offset (0, since atoms lie at multiples of 1024), 62-63 swizzle (1: 128 bytes).
// Accumulators: d[4 j + {0, 1}] is row 16 warp + lane / 4, columns 8 j + 2 (lane % 4) + {0, 1};
// d[4 j + {2, 3}] the row 8 further.
// Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".

#include <cstdint>
#include <utility>

namespace imhotep::kernels::cuda::sm90 {

inline constexpr int kAtomBytes = 1024;
inline constexpr int kBlockBytes = 64 * 128;  // 64 lines

template <bool kMnMajor>
[[nodiscard]] __device__ constexpr std::uint64_t descriptor(std::uint32_t address) {
  constexpr std::uint64_t kLeading = kMnMajor ? kBlockBytes / 16 : 1;
  return (std::uint64_t{1} << 62) | (std::uint64_t{kAtomBytes / 16} << 32) | (kLeading << 16) |
         ((address & 0x3ffffU) >> 4);
}
// From one group of 16 elements of the reduction to the next, in units of the descriptor.
[[nodiscard]] __device__ constexpr std::uint64_t reduction_step(bool mn_major) {
  return mn_major ? 2048 / 16 : 32 / 16;
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// clang-format off
#define IMHOTEP_TEXT0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define IMHOTEP_TEXT1 IMHOTEP_TEXT0 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define IMHOTEP_TEXT2 IMHOTEP_TEXT1 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define IMHOTEP_TEXT3 IMHOTEP_TEXT2 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define IMHOTEP_TEXT4 IMHOTEP_TEXT3 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define IMHOTEP_TEXT5 IMHOTEP_TEXT4 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define IMHOTEP_TEXT6 IMHOTEP_TEXT5 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define IMHOTEP_TEXT7 IMHOTEP_TEXT6 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define IMHOTEP_TEXT8 IMHOTEP_TEXT7 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define IMHOTEP_TEXT9 IMHOTEP_TEXT8 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define IMHOTEP_TEXT10 IMHOTEP_TEXT9 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define IMHOTEP_TEXT11 IMHOTEP_TEXT10 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define IMHOTEP_TEXT12 IMHOTEP_TEXT11 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define IMHOTEP_TEXT13 IMHOTEP_TEXT12 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define IMHOTEP_TEXT14 IMHOTEP_TEXT13 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define IMHOTEP_TEXT15 IMHOTEP_TEXT14 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define IMHOTEP_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define IMHOTEP_REGS0 IMHOTEP_D4(0), IMHOTEP_D4(4)
#define IMHOTEP_REGS1 IMHOTEP_REGS0, IMHOTEP_D4(8), IMHOTEP_D4(12)
#define IMHOTEP_REGS2 IMHOTEP_REGS1, IMHOTEP_D4(16), IMHOTEP_D4(20)
#define IMHOTEP_REGS3 IMHOTEP_REGS2, IMHOTEP_D4(24), IMHOTEP_D4(28)
#define IMHOTEP_REGS4 IMHOTEP_REGS3, IMHOTEP_D4(32), IMHOTEP_D4(36)
#define IMHOTEP_REGS5 IMHOTEP_REGS4, IMHOTEP_D4(40), IMHOTEP_D4(44)
#define IMHOTEP_REGS6 IMHOTEP_REGS5, IMHOTEP_D4(48), IMHOTEP_D4(52)
#define IMHOTEP_REGS7 IMHOTEP_REGS6, IMHOTEP_D4(56), IMHOTEP_D4(60)
#define IMHOTEP_REGS8 IMHOTEP_REGS7, IMHOTEP_D4(64), IMHOTEP_D4(68)
#define IMHOTEP_REGS9 IMHOTEP_REGS8, IMHOTEP_D4(72), IMHOTEP_D4(76)
#define IMHOTEP_REGS10 IMHOTEP_REGS9, IMHOTEP_D4(80), IMHOTEP_D4(84)
#define IMHOTEP_REGS11 IMHOTEP_REGS10, IMHOTEP_D4(88), IMHOTEP_D4(92)
#define IMHOTEP_REGS12 IMHOTEP_REGS11, IMHOTEP_D4(96), IMHOTEP_D4(100)
#define IMHOTEP_REGS13 IMHOTEP_REGS12, IMHOTEP_D4(104), IMHOTEP_D4(108)
#define IMHOTEP_REGS14 IMHOTEP_REGS13, IMHOTEP_D4(112), IMHOTEP_D4(116)
#define IMHOTEP_REGS15 IMHOTEP_REGS14, IMHOTEP_D4(120), IMHOTEP_D4(124)
#define IMHOTEP_WGMMA(N, BLOCK, A, B, S, TA, TB)                                          \
  if constexpr (kN == N)                                                                     \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" S ", 0;\n"                         \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {"                \
                 IMHOTEP_TEXT##BLOCK "}, %" A ", %" B ", p, 1, 1, %" TA ", %" TB ";\n}\n"  \
                 : IMHOTEP_REGS##BLOCK                                                       \
                 : "l"(a), "l"(b), "r"(add), "n"(kMnMajorA ? 1 : 0), "n"(kMnMajorB ? 1 : 0))

// Written out: a loop over an array that wgmma holds in registers is unrolled too late for that.
template <int... kIndex>
__device__ __forceinline__ void clear(float (&d)[128], std::integer_sequence<int, kIndex...>) {
  ((d[kIndex] = 0), ...);
}

// d = a * b (+ d where add is not 0). Asynchronous: between wgmma_fence and wgmma_commit.
template <int kN, bool kMnMajorA, bool kMnMajorB>
__device__ __forceinline__ void wgmma(float (&d)[128], std::uint64_t a, std::uint64_t b, int add) {
  static_assert(kN % 16 == 0 && kN >= 16 && kN <= 256);
  IMHOTEP_WGMMA(16, 0, "8", "9", "10", "11", "12");
  IMHOTEP_WGMMA(32, 1, "16", "17", "18", "19", "20");
  IMHOTEP_WGMMA(48, 2, "24", "25", "26", "27", "28");
  IMHOTEP_WGMMA(64, 3, "32", "33", "34", "35", "36");
  IMHOTEP_WGMMA(80, 4, "40", "41", "42", "43", "44");
  IMHOTEP_WGMMA(96, 5, "48", "49", "50", "51", "52");
  IMHOTEP_WGMMA(112, 6, "56", "57", "58", "59", "60");
  IMHOTEP_WGMMA(128, 7, "64", "65", "66", "67", "68");
  IMHOTEP_WGMMA(144, 8, "72", "73", "74", "75", "76");
  IMHOTEP_WGMMA(160, 9, "80", "81", "82", "83", "84");
  IMHOTEP_WGMMA(176, 10, "88", "89", "90", "91", "92");
  IMHOTEP_WGMMA(192, 11, "96", "97", "98", "99", "100");
  IMHOTEP_WGMMA(208, 12, "104", "105", "106", "107", "108");
  IMHOTEP_WGMMA(224, 13, "112", "113", "114", "115", "116");
  IMHOTEP_WGMMA(240, 14, "120", "121", "122", "123", "124");
  IMHOTEP_WGMMA(256, 15, "128", "129", "130", "131", "132");
}

// Keeps the compiler from moving reads of accumulators over the wait.
__device__ __forceinline__ void accumulator_fence(float (&d)[128]) {
  asm volatile("" : IMHOTEP_REGS15 :: "memory");
}

#undef IMHOTEP_WGMMA
#undef IMHOTEP_D4
#undef IMHOTEP_TEXT0
#undef IMHOTEP_REGS0
#undef IMHOTEP_TEXT1
#undef IMHOTEP_REGS1
#undef IMHOTEP_TEXT2
#undef IMHOTEP_REGS2
#undef IMHOTEP_TEXT3
#undef IMHOTEP_REGS3
#undef IMHOTEP_TEXT4
#undef IMHOTEP_REGS4
#undef IMHOTEP_TEXT5
#undef IMHOTEP_REGS5
#undef IMHOTEP_TEXT6
#undef IMHOTEP_REGS6
#undef IMHOTEP_TEXT7
#undef IMHOTEP_REGS7
#undef IMHOTEP_TEXT8
#undef IMHOTEP_REGS8
#undef IMHOTEP_TEXT9
#undef IMHOTEP_REGS9
#undef IMHOTEP_TEXT10
#undef IMHOTEP_REGS10
#undef IMHOTEP_TEXT11
#undef IMHOTEP_REGS11
#undef IMHOTEP_TEXT12
#undef IMHOTEP_REGS12
#undef IMHOTEP_TEXT13
#undef IMHOTEP_REGS13
#undef IMHOTEP_TEXT14
#undef IMHOTEP_REGS14
#undef IMHOTEP_TEXT15
#undef IMHOTEP_REGS15
// clang-format on

}  // namespace imhotep::kernels::cuda::sm90
