// The grouped product on any GPU, for any sizes and alignment: blocks of 128 by 128 results, 256
// threads, the reduction in steps that pass through shared memory, where both operands lie with the
// reduction innermost (whichever way they lie in memory); the next step is read into registers
// meanwhile. bf16: 8 warps of 64 by 32 with mma.sync; fp32: 8 by 8 a thread, no TF32, for checks.
// A block finds its expert by scanning the offsets with one warp.

#include <cstdint>
#include <type_traits>

#include "kernels/cuda_common.cuh"
#include "kernels/grouped_gemm_cuda.h"
#include "kernels/sm90_primitives.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kTile = 128, kThreads = 256;

template <class T>
struct Steps {  // bf16: two mma.sync deep; lines padded so that 8 lie in different banks
  static constexpr int kDepth = std::is_same_v<T, float> ? 16 : 32;
  static constexpr int kPitch = std::is_same_v<T, float> ? 17 : 40;
  static constexpr int kPacks = kTile * kDepth / (kThreads * Pack<T>::kSize);  // a thread
};

// An operand as lines (of M or N) by reduction; one of the two strides is 1.
struct Operand {
  const void* data;
  std::int64_t line, depth;          // strides
  std::int64_t per_expert, per_row;  // where an expert's part begins
};

struct Problem {
  const std::int32_t* offsets;
  std::int64_t experts, bound;
  GroupedMode mode;
  Epilogue epilogue;
  bool accumulate;
  std::int64_t m, n, depth;  // m is 0 where it is the expert's rows, depth likewise
  Operand a, b;
  const void* bias;
  void* pre;
  void* out;
  FaultRecord* fault;
};

struct Place {
  std::int64_t expert, first_row, rows;  // of the whole expert
  std::int64_t line;                     // of M, first of this block
};

// The row block number `block` over all experts. Returns whether there is one. One warp.
__device__ bool find_rows(const Problem& p, std::int64_t block, Place& place) {
  const int lane = static_cast<int>(threadIdx.x);
  std::int64_t before = 0;
  for (std::int64_t base = 0; base < p.experts; base += kWarp) {
    const std::int64_t e = base + lane;
    std::int64_t begin = 0, rows = 0;
    if (e < p.experts) {
      begin = min(std::int64_t{p.offsets[e]}, p.bound);
      rows = min(std::int64_t{p.offsets[e + 1]}, p.bound) - begin;
    }
    std::int64_t sum = rows > 0 ? ceil_div(rows, kTile) : 0;
    for (int lanes = 1; lanes < kWarp; lanes *= 2) {
      const std::int64_t left = __shfl_up_sync(0xffffffffU, sum, lanes);
      if (lane >= lanes) sum += left;
    }
    sum += before;
    const unsigned reached = __ballot_sync(0xffffffffU, sum > block);
    if (reached != 0) {
      if (lane == __ffs(static_cast<int>(reached)) - 1) {
        const std::int64_t mine = sum - ceil_div(rows, kTile);
        place = {e, begin, rows, (block - mine) * kTile};
      }
      return true;
    }
    before = __shfl_sync(0xffffffffU, sum, kWarp - 1);
  }
  return false;
}

// Reads and stores the part of one operand that belongs to one step.
template <class T>
class Loader {
 public:
  __device__ Loader(const Operand& operand, const Place& place, std::int64_t first_line,
                    std::int64_t lines, std::int64_t depth)
      : from_(static_cast<const T*>(operand.data) + place.expert * operand.per_expert +
              place.first_row * operand.per_row + first_line * operand.line),
        line_(operand.line),
        depth_stride_(operand.depth),
        lines_(lines - first_line),
        depth_(depth) {}

  __device__ void read(std::int64_t at) {
#pragma unroll
    for (int i = 0; i < Steps<T>::kPacks; ++i) {
      const int line = line_of(i), depth = depth_of(i);
      const T* source = from_ + line * line_ + (at + depth) * depth_stride_;
      const std::int64_t left = depth_stride_ == 1 ? (line < lines_ ? depth_ - at - depth : 0)
                                                   : (at + depth < depth_ ? lines_ - line : 0);
      if (left >= Pack<T>::kSize && reinterpret_cast<std::uintptr_t>(source) % 16 == 0) {
        packs_[i] = load_pack(source);
      } else {
#pragma unroll
        for (int j = 0; j < Pack<T>::kSize; ++j) {
          packs_[i].value[j] = j < left ? source[j] : from_float<T>(0);
        }
      }
    }
  }
  __device__ void store(T* shared) const {
#pragma unroll
    for (int i = 0; i < Steps<T>::kPacks; ++i) {
      T* to = shared + line_of(i) * Steps<T>::kPitch + depth_of(i);
      const int step = depth_stride_ == 1 ? 1 : Steps<T>::kPitch;
#pragma unroll
      for (int j = 0; j < Pack<T>::kSize; ++j) to[j * step] = packs_[i].value[j];
    }
  }

 private:
  // Neighbouring threads read neighbouring packs along the axis that is contiguous in memory.
  __device__ int line_of(int i) const {
    const int pack = static_cast<int>(threadIdx.x) + i * kThreads;
    constexpr int kDeep = Steps<T>::kDepth / Pack<T>::kSize, kWide = kTile / Pack<T>::kSize;
    return depth_stride_ == 1 ? pack / kDeep : pack % kWide * Pack<T>::kSize;
  }
  __device__ int depth_of(int i) const {
    const int pack = static_cast<int>(threadIdx.x) + i * kThreads;
    constexpr int kDeep = Steps<T>::kDepth / Pack<T>::kSize, kWide = kTile / Pack<T>::kSize;
    return depth_stride_ == 1 ? pack % kDeep * Pack<T>::kSize : pack / kWide;
  }

  const T* from_;
  std::int64_t line_, depth_stride_, lines_, depth_;
  Pack<T> packs_[Steps<T>::kPacks];
};

// The results of a thread: which they are, and one step of their sums.
template <class T>
struct Sums;

template <>
struct Sums<float> {  // lines y + 16 i, columns x + 16 j
  float value[8][8] = {};

  __device__ void add(const float* a, const float* b) {
    const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
    for (int k = 0; k < Steps<float>::kDepth; ++k) {
      float left[8], right[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        left[i] = a[(y + 16 * i) * Steps<float>::kPitch + k];
        right[i] = b[(x + 16 * i) * Steps<float>::kPitch + k];
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) value[i][j] += left[i] * right[j];
      }
    }
  }
  template <class Use>
  __device__ void each(Use use) const {
    const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) use(y + 16 * i, x + 16 * j, value[i][j]);
    }
  }
};

template <>
struct Sums<Bf16> {  // a warp: 64 lines (4 blocks of 16) by 32 columns (4 blocks of 8)
  float value[4][4][4] = {};

  __device__ static int first_line() { return static_cast<int>(threadIdx.x) / kWarp / 4 * 64; }
  __device__ static int first_column() { return static_cast<int>(threadIdx.x) / kWarp % 4 * 32; }

  __device__ void add(const Bf16* a, const Bf16* b) {
    constexpr int kPitch = Steps<Bf16>::kPitch;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const Bf16* left = a + (first_line() + lane % 16) * kPitch + lane / 16 * 8;
    const Bf16* right = b + (first_column() + lane / 16 * 8 + lane % 8) * kPitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < Steps<Bf16>::kDepth; k += 16) {
      std::uint32_t lines[4][4], columns[2][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sm90::load_matrices<false>(sm90::shared_address(left + i * 16 * kPitch + k), lines[i]);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        sm90::load_matrices<false>(sm90::shared_address(right + j * 16 * kPitch + k), columns[j]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          multiply(value[i][j], lines[i], columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
  template <class Use>
  __device__ void each(Use use) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          use(first_line() + 16 * i + lane / 4 + part / 2 * 8,
              first_column() + 8 * j + lane % 4 * 2 + part % 2, value[i][j][part]);
        }
      }
    }
  }

 private:
  __device__ static void multiply(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                  std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

template <class T>
__device__ void finish(const Problem& p, const Place& place, std::int64_t line, std::int64_t column,
                       float sum) {
  const bool weight = p.mode == GroupedMode::GradWeight;
  const std::int64_t row = (weight ? place.expert * p.m : place.first_row) + line;
  const std::int64_t at = row * p.n + column;
  if (p.bias != nullptr) {
    sum += to_float(static_cast<const T*>(p.bias)[place.expert * p.n + column]);
  }
  T* out = static_cast<T*>(p.out);
  T* pre = static_cast<T*>(p.pre);
  if (p.epilogue == Epilogue::BiasGelu) {
    if (pre != nullptr) pre[at] = from_float<T>(sum);
    sum = gelu(sum);
  } else if (p.epilogue == Epilogue::GeluGrad) {
    sum *= gelu_slope(to_float(pre[at]));
  }
  if (weight && p.accumulate) sum += to_float(out[at]);
  out[at] = from_float<T>(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads) plain_kernel(const __grid_constant__ Problem p) {
  __shared__ alignas(16) T a_lines[kTile * Steps<T>::kPitch], b_lines[kTile * Steps<T>::kPitch];
  __shared__ Place place;
  __shared__ bool found;
  const std::int64_t columns = ceil_div(p.n, kTile);
  const std::int64_t column = blockIdx.x % columns * kTile, block = blockIdx.x / columns;
  const bool weight = p.mode == GroupedMode::GradWeight;
  if (threadIdx.x < kWarp && !weight) {
    const bool any = find_rows(p, block, place);
    if (threadIdx.x == 0) found = any;
  }
  if (threadIdx.x == 0) {
    const std::int64_t rows = p.offsets[p.experts];
    if (blockIdx.x == 0 && rows > p.bound)
      report_fault(p.fault, Fault::RowsExceedBound, rows, p.bound);
    if (weight) {
      const std::int64_t blocks = ceil_div(p.m, kTile), e = block / blocks;
      const std::int64_t begin = min(std::int64_t{p.offsets[e]}, p.bound);
      const std::int64_t end = min(std::int64_t{p.offsets[e + 1]}, p.bound);
      place = {e, begin, end - begin, block % blocks * kTile};
      found = end > begin || !p.accumulate;
    }
  }
  __syncthreads();
  if (!found) return;
  const std::int64_t m = weight ? p.m : place.rows, depth = weight ? place.rows : p.depth;
  Loader<T> a(p.a, place, place.line, m, depth), b(p.b, place, column, p.n, depth);
  Sums<T> sums;
  if (depth > 0) {
    a.read(0);
    b.read(0);
  }
  for (std::int64_t at = 0; at < depth; at += Steps<T>::kDepth) {
    a.store(a_lines);
    b.store(b_lines);
    __syncthreads();
    if (at + Steps<T>::kDepth < depth) {
      a.read(at + Steps<T>::kDepth);
      b.read(at + Steps<T>::kDepth);
    }
    sums.add(a_lines, b_lines);
    __syncthreads();
  }
  sums.each([&](int line, int x, float sum) {
    if (place.line + line < m && column + x < p.n) {
      finish<T>(p, place, place.line + line, column + x, sum);
    }
  });
}

}  // namespace

void grouped_gemm_plain(const Queue& queue, const GroupedGemm& s, const GroupedGemmOperands& o) {
  Problem p{.offsets = o.expert_offsets,
            .experts = s.experts,
            .bound = s.rows.bound,
            .mode = s.mode,
            .epilogue = s.epilogue,
            .accumulate = s.accumulate,
            .m = 0,
            .n = s.n,
            .depth = s.k,
            .a = {o.in, s.k, 1, 0, s.k},
            .b = {o.weight, s.k, 1, s.n * s.k, 0},
            .bias = s.epilogue != Epilogue::None ? o.bias : nullptr,
            .pre = o.pre,
            .out = o.out,
            .fault = queue.fault};
  std::int64_t blocks = ceil_div(s.rows.bound, kTile) + s.experts;  // no expert's last is full
  if (s.mode == GroupedMode::GradInput) {
    p.n = s.k;
    p.depth = s.n;
    p.a = {o.in, s.n, 1, 0, s.n};
    p.b = {o.weight, 1, s.k, s.n * s.k, 0};
    p.bias = nullptr;
  } else if (s.mode == GroupedMode::GradWeight) {
    p.m = s.n;
    p.n = s.k;
    p.depth = 0;
    p.a = {o.in, 1, s.n, 0, s.n};
    p.b = {o.activation, 1, s.k, 0, s.k};
    p.out = o.d_weight;
    blocks = s.experts * ceil_div(s.n, kTile);
  }
  blocks *= ceil_div(p.n, kTile);
  if (blocks == 0) return;
  expect(blocks < (std::int64_t{1} << 31), "grouped_gemm", "more blocks than a grid may have");
  by_type(queue, "grouped_gemm", [&](auto zero) {
    using T = decltype(zero);
    plain_kernel<T><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(queue)>>>(p);
    IMHOTEP_LAUNCHED("grouped_gemm_plain");
  });
}

}  // namespace imhotep::kernels::cuda
