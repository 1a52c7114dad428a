// The router's products: bf16 activations with fp32 weights or gradients, summed in fp32.
// An fp32 number is the sum of three bf16 numbers (8 + 8 + 8 bits), and a product of two bf16
// numbers is exact in fp32, so tensor cores give fp32 mathematics: three products instead of one.
// Each step of 64 is summed from zero and added to the total by ordinary fp32 additions, since
// tensor cores truncate their sums.
//   forward          c fp32 [m, n] = a bf16 [m, k] b fp32 [n, k]ᵀ (+ bias)
//   weight gradient  c fp32 [m, n] (+)= a fp32 [k, m]ᵀ b bf16 [k, n], k divided among blocks
//   input gradient   c bf16 [m, n] (+)= a fp32 [m, k] b fp32 [k, n]: two parts of each, 16 bits,
//                    because c keeps 8
// Eight warps a block, 32 x 32 of c each. The next tile is loaded from memory into registers while
// this one is multiplied. Columns of c are seated so that a thread ends with eight neighbours.
// Few rows (decoding): a warp for a row and four columns, with fp32 multiply-adds.

#include "kernels/gemm_cuda.h"
#include "kernels/gemm_split.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kFewRows = 128;    // up to so many rows are latency, not work
constexpr int kDotColumns = 4;   // of one warp
constexpr int kMostSlices = 32;  // of k

struct Work {
  std::int64_t m, n, k, slice;  // slice: depth of a block
  const void *a, *b;
  const float* bias;
  void* c;  // weight gradient: partial sums [slices, m, n]
  bool accumulate, whole_a, whole_b, whole_c;
};

// Eight columns of one row of c; `old` holds what c holds, or zeros.
template <class F>
__device__ inline void finish_eight(const Work& work, std::int64_t row, std::int64_t column,
                                    const float (&x)[8], const Raw<Bf16, 8>& old) {
  using C = typename F::C;
  if (row >= work.m || column >= work.n) return;
  C* c = static_cast<C*>(work.c) + row * work.n + column;
  const Lanes<8> before = old.lanes();
  Lanes<8> out;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    out.at[j] = x[j] + before.at[j];
    if (work.bias != nullptr && column + j < work.n) out.at[j] += work.bias[column + j];
  }
  if (!work.whole_c) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (column + j >= work.n) continue;
      c[j] = from_float<C>(work.accumulate ? to_float(c[j]) + out.at[j] : out.at[j]);
    }
  } else if constexpr (sizeof(C) == sizeof(Bf16)) {
    store_lanes<C, 8>(c, out);
  } else {
#pragma unroll
    for (int j = 0; j < 8; j += 4) {
      store_lanes<C, 4>(c + j, {out.at[j], out.at[j + 1], out.at[j + 2], out.at[j + 3]});
    }
  }
}

template <Form kForm>
__global__ void __launch_bounds__(kThreads, FormOf<kForm>::kBlocksPerSm) split_product(Work work) {
  using F = FormOf<kForm>;
  using A = typename F::A;
  using B = typename F::B;
  extern __shared__ uint4 memory[];
  Bf16* tile_a = reinterpret_cast<Bf16*>(memory);
  Bf16* tile_b = tile_a + A::kElements;
  const std::int64_t m0 = static_cast<std::int64_t>(blockIdx.x) * F::kM;
  const std::int64_t n0 = static_cast<std::int64_t>(blockIdx.y) * F::kN;
  const std::int64_t begin = blockIdx.z * work.slice;
  const std::int64_t end = min(begin + work.slice, work.k);
  const auto* a = static_cast<const typename A::T*>(work.a);
  const auto* b = static_cast<const typename B::T*>(work.b);
  constexpr int kWarpsDown = F::kM / kWarpTile;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warp_m = warp % kWarpsDown * kWarpTile, warp_n = warp / kWarpsDown * kWarpTile;
  A of_a;
  B of_b;
  const auto load = [&](std::int64_t depth) {
    if constexpr (F::kAByDepth) {
      of_a.load(a, depth, m0, end, work.m, work.m, work.whole_a);
    } else {
      of_a.load(a, m0, depth, work.m, end, work.k, work.whole_a);
    }
    if constexpr (F::kBByDepth) {
      of_b.load(b, depth, n0, end, work.n, work.n, work.whole_b);
    } else {
      of_b.load(b, n0, depth, work.n, end, work.k, work.whole_b);
    }
  };
  Sums total = {};
  load(begin);
  for (std::int64_t depth = begin; depth < end; depth += F::kDepth) {
    __syncthreads();
    of_a.store(tile_a);
    of_b.store(tile_b);
    __syncthreads();
    if (depth + F::kDepth < end) load(depth + F::kDepth);
    multiply_step<F>(tile_a, tile_b, warp_m, warp_n, total);
  }
  Work out = work;
  if constexpr (kForm == Form::WeightGrad) {
    out.c = static_cast<float*>(work.c) + blockIdx.z * work.m * work.n;
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row = m0 + warp_m + lane / 4, column = n0 + warp_n + lane % 4 * 8;
  Raw<Bf16, 8> old[4] = {};  // of rows 8 apart, all read before the first is needed
  if constexpr (kForm == Form::InputGrad) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!work.accumulate || !work.whole_c || row + 8 * i >= work.m || column >= work.n) continue;
      old[i] =
          load_raw<Bf16, 8>(static_cast<const Bf16*>(work.c) + (row + 8 * i) * work.n + column);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float x[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) x[j] = total[i / 2][j / 2][2 * (i % 2) + j % 2];
    finish_eight<F>(out, row + 8 * i, column, x, old[i]);
  }
}

__global__ void __launch_bounds__(kThreads)
    add_slices(const float* partial, int slices, std::int64_t elements, float* c, bool accumulate) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= elements) return;
  float sum = 0;
#pragma unroll 8
  for (int slice = 0; slice < slices; ++slice) sum += partial[slice * elements + i];
  c[i] = accumulate ? c[i] + sum : sum;
}

// Forward of few rows: blockIdx.y is the row, a warp takes kDotColumns columns.
template <int kStep>
__global__ void __launch_bounds__(kThreads) few_rows(Work work) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row = blockIdx.y;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) + warp) * kDotColumns;
  if (first >= work.n) return;
  const Bf16* a = static_cast<const Bf16*>(work.a) + row * work.k;
  const float* b = static_cast<const float*>(work.b);
  float sum[kDotColumns] = {};
#pragma unroll 2
  for (std::int64_t i = lane * kStep; i < work.k; i += kWarp * kStep) {
    const Lanes<kStep> x = load_lanes<Bf16, kStep>(a + i);
#pragma unroll
    for (int column = 0; column < kDotColumns; ++column) {
      const float* y = b + min(first + column, work.n - 1) * work.k + i;
      constexpr int kPiece = kStep == 1 ? 1 : kLanes<float>;
#pragma unroll
      for (int j = 0; j < kStep; j += kPiece) {
        const Lanes<kPiece> piece = load_lanes<float, kPiece>(y + j);
#pragma unroll
        for (int e = 0; e < kPiece; ++e) sum[column] += x.at[j + e] * piece.at[e];
      }
    }
  }
#pragma unroll
  for (int column = 0; column < kDotColumns; ++column) {
    const float dot = warp_sum(sum[column]);
    if (lane != 0 || first + column >= work.n) continue;
    const float added = work.bias != nullptr ? work.bias[first + column] : 0.0F;
    static_cast<float*>(work.c)[row * work.n + first + column] = dot + added;
  }
}

template <Form kForm>
void launch(const Queue& queue, const Work& work, int slices) {
  using F = FormOf<kForm>;
  constexpr int kBytes = (F::A::kElements + F::B::kElements) * static_cast<int>(sizeof(Bf16));
  static_assert(kBytes <= (48 << 10), "more needs cudaFuncAttributeMaxDynamicSharedMemorySize");
  const std::int64_t across = ceil_div(work.n, F::kN);
  expect(across < (1 << 16), "gemm", "too many columns for the router's product");
  const dim3 grid(static_cast<unsigned>(ceil_div(work.m, F::kM)), static_cast<unsigned>(across),
                  static_cast<unsigned>(slices));
  split_product<kForm><<<grid, kThreads, kBytes, stream_of(queue)>>>(work);
  IMHOTEP_LAUNCHED("gemm of mixed types");
}

void forward(const Queue& queue, const Work& work) {
  if (work.m > kFewRows) return launch<Form::Forward>(queue, work, 1);
  const dim3 grid(blocks_for(work.n, kDotColumns * (kThreads / kWarp), 0x7fffffff),
                  static_cast<unsigned>(work.m));
  if (work.whole_a && work.whole_b) {
    few_rows<kLanes<Bf16>><<<grid, kThreads, 0, stream_of(queue)>>>(work);
  } else {
    few_rows<1><<<grid, kThreads, 0, stream_of(queue)>>>(work);
  }
  IMHOTEP_LAUNCHED("gemm of few rows");
}

void weight_grad(const Queue& queue, Work work, bool accumulate) {
  using F = FormOf<Form::WeightGrad>;
  const std::int64_t elements = work.m * work.n;
  if (work.k == 0 && accumulate) return;
  const std::int64_t fit =
      queue.workspace_bytes / (elements * static_cast<std::int64_t>(sizeof(float)));
  expect(fit > 0, "gemm", "the workspace is too small for the router's weight gradient");
  const std::int64_t tiles = ceil_div(work.m, F::kM) * ceil_div(work.n, F::kN);
  const std::int64_t wanted = ceil_div(context_of(queue).multiprocessors, tiles);
  const std::int64_t steps = std::max<std::int64_t>(1, ceil_div(work.k, F::kDepth));
  const std::int64_t most = std::clamp<std::int64_t>(std::min(wanted, fit), 1,
                                                     std::min<std::int64_t>(kMostSlices, steps));
  work.slice = ceil_div(steps, most) * F::kDepth;
  const int slices = static_cast<int>(std::max<std::int64_t>(1, ceil_div(work.k, work.slice)));
  auto* c = static_cast<float*>(work.c);
  work.c = queue.workspace;
  work.accumulate = false;
  work.whole_c = work.n % kLanes<Bf16> == 0;
  launch<Form::WeightGrad>(queue, work, slices);
  add_slices<<<blocks_for(elements, kThreads, 0x7fffffff), kThreads, 0, stream_of(queue)>>>(
      static_cast<const float*>(queue.workspace), slices, elements, c, accumulate);
  IMHOTEP_LAUNCHED("add_slices");
}

}  // namespace

void mixed_product(const Queue& queue, const Gemm& s, const GemmOperands& o) {
  const auto bytes_a = static_cast<std::int64_t>(s.wide_a ? sizeof(float) : sizeof(Bf16));
  const auto bytes_b = static_cast<std::int64_t>(s.wide_b ? sizeof(float) : sizeof(Bf16));
  const bool has_bias = s.epilogue == Epilogue::Bias;
  const bool plain = s.epilogue == Epilogue::None;
  const Work work{
      .m = s.m,
      .n = s.n,
      .k = s.k,
      .slice = s.k,
      .a = o.a,
      .b = o.b,
      .bias = has_bias ? static_cast<const float*>(o.bias) : nullptr,
      .c = o.c,
      .accumulate = s.accumulate,
      .whole_a = sixteen(s.transpose_a ? s.m : s.k, bytes_a, {o.a}),
      .whole_b = sixteen(s.transpose_b ? s.k : s.n, bytes_b, {o.b}),
      // eight columns at a time
      .whole_c = s.n % kLanes<Bf16> == 0 && sixteen(s.n, 2, {o.c}),
  };
  if (!s.wide_a && s.wide_b && s.wide && !s.transpose_a && s.transpose_b && !s.accumulate &&
      (plain || has_bias)) {
    return forward(queue, work);
  }
  if (s.wide_a && !s.wide_b && s.wide && s.transpose_a && !s.transpose_b && plain) {
    return weight_grad(queue, work, s.accumulate);
  }
  if (s.wide_a && s.wide_b && !s.wide && !s.transpose_a && !s.transpose_b && plain) {
    return launch<Form::InputGrad>(queue, work, 1);
  }
  expect(false, "gemm",
         "on a bf16 queue fp32 operands go with bf16 ones only as the router's forward product, "
         "weight gradient or input gradient");
}

}  // namespace imhotep::kernels::cuda
