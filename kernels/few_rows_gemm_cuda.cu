// Few rows times a weight matrix: launches of the body in few_rows_body.cuh, one block a
// multiprocessor, blocks striding over the items (columns of the result) with one ring that never
// runs dry between them. Up to 16 rows: cuBLASLt is faster beyond and serves instead. The body may
// normalise its input; where it does not, a kernel of its own does (a block a row).

#include "kernels/few_rows_gemm.h"

#include "kernels/few_rows_gemm.cuh"
#include "kernels/gemm_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

template <int kTiles, int kGroups, bool kNorm>
__global__ void __launch_bounds__(kFewThreads) few_rows_kernel(FewRowsTask task) {
  extern __shared__ __align__(128) unsigned char memory[];
  launch_dependents();
  few_rows_body<kTiles, kGroups, kNorm>(task, static_cast<int>(blockIdx.x),
                                        static_cast<int>(gridDim.x), memory);
}

template <int kTiles, int kGroups, bool kNorm>
void start(const Queue& queue, FewRowsTask task) {
  const FewRowsGrid grid =
      plan_few_rows<kTiles, kGroups, kNorm>(context_of(queue).multiprocessors, task);
  launch_early(queue,
               {.grid = dim3(grid.blocks),
                .block = dim3(kFewThreads),
                .shared_bytes = grid.shared_bytes,
                .name = "few_rows"},
               few_rows_kernel<kTiles, kGroups, kNorm>, task);
}

template <int kGroups, bool kNorm>
void start_small(const Queue& queue, const FewRowsTask& task) {
  switch (choose_tiles(task.n, context_of(queue).multiprocessors, 1, 4)) {
    case 1:
      return start<1, kGroups, kNorm>(queue, task);
    case 2:
      return start<2, kGroups, kNorm>(queue, task);
    case 3:
      return start<3, kGroups, kNorm>(queue, task);
    default:
      return start<4, kGroups, kNorm>(queue, task);
  }
}

constexpr int kNormThreads = 256;
constexpr int kNormPieces = 4;  // of 8 elements that a thread keeps; more are read again

// A block a row. Threads stride over the row in 16-byte pieces.
__global__ void __launch_bounds__(kNormThreads) norm_kernel(FewRowsTask p, Bf16* n) {
  __shared__ float shared[2][kNormThreads / kWarp];
  launch_dependents();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * p.k;
  const int pieces = p.k / 8, thread = static_cast<int>(threadIdx.x);
  const auto piece = [&](const Bf16* from, int i) {
    return __ldcg(reinterpret_cast<const uint4*>(from) + i);
  };
  const auto own = [&](int i) { return thread + i * kNormThreads; };
  uint4 gain[kNormPieces], shift[kNormPieces], x[kNormPieces];
#pragma unroll
  for (int i = 0; i < kNormPieces; ++i) {
    gain[i] = shift[i] = x[i] = make_uint4(0, 0, 0, 0);
    if (own(i) >= pieces) continue;
    gain[i] = piece(p.gain, own(i));
    shift[i] = piece(p.shift, own(i));
  }
  wait_for_predecessors();
#pragma unroll
  for (int i = 0; i < kNormPieces; ++i) {
    if (own(i) < pieces) x[i] = piece(p.x + row, own(i));
  }
  float sum = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < kNormPieces; ++i) sum += sum_of(x[i]);
  for (int i = own(kNormPieces); i < pieces; i += kNormThreads) sum += sum_of(piece(p.x + row, i));
  const float mean = block_sum(sum, shared[0]) / static_cast<float>(p.k);
#pragma unroll
  for (int i = 0; i < kNormPieces; ++i) {
    if (own(i) < pieces) squares += squares_of(x[i], mean);
  }
  for (int i = own(kNormPieces); i < pieces; i += kNormThreads) {
    squares += squares_of(piece(p.x + row, i), mean);
  }
  const float variance = block_sum(squares, shared[1]) / static_cast<float>(p.k);
  const float rstd = rsqrtf(variance + static_cast<float>(kLayerNormEpsilon));
  auto* to = reinterpret_cast<uint4*>(n + row);
#pragma unroll
  for (int i = 0; i < kNormPieces; ++i) {
    if (own(i) < pieces) to[own(i)] = normed(x[i], gain[i], shift[i], mean, rstd);
  }
  for (int i = own(kNormPieces); i < pieces; i += kNormThreads) {
    to[i] = normed(piece(p.x + row, i), piece(p.gain, i), piece(p.shift, i), mean, rstd);
  }
}

constexpr int kOwnRows = 2 * kTileRows;  // more are for cuBLASLt

void run_library(const Queue& queue, const FewRowsTask& task) {
  library_product(
      queue,
      {.m = task.rows, .n = task.n, .k = task.k, .transpose_b = true, .epilogue = task.epilogue},
      {.a = task.x,
       .b = task.w,
       .bias = task.bias,
       .addend = task.addend,
       .pre = task.pre,
       .c = task.c});
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

}  // namespace

void run_norm(const Queue& queue, const FewRowsTask& task, Bf16* n) {
  launch_early(queue, {.grid = dim3(task.rows), .block = dim3(kNormThreads), .name = "norm"},
               norm_kernel, task, n);
}

void run_few_rows(const Queue& queue, FewRowsTask task) {
  if (task.rows == 0 || task.n == 0) return;
  expect(task.rows <= kFewRows && task.k % 8 == 0 && aligned(task.x) && aligned(task.w) &&
             aligned(task.gain) && aligned(task.shift),
         "few_rows", "at most 128 rows of a multiple of 8 elements, 16-byte aligned");
  if (task.gain != nullptr && !fuses_norm(task.rows, task.k)) {
    auto* n = static_cast<Bf16*>(kept_memory(queue, std::int64_t{2} * task.rows * task.k));
    run_norm(queue, task, n);
    task.x = n;
    task.gain = task.shift = nullptr;
  }
  if (task.rows > kOwnRows) return run_library(queue, task);
  if (task.gain != nullptr) {
    if (task.rows <= kTileRows) return start_small<1, true>(queue, task);
    return start_small<2, true>(queue, task);
  }
  if (task.rows <= kTileRows) return start_small<1, false>(queue, task);
  return start_small<2, false>(queue, task);
}

bool few_rows_gemm(const Queue& queue, const Gemm& s, const GemmOperands& o) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const bool suits = queue.dtype == Dtype::Bf16 && s.m <= kOwnRows && !s.transpose_a &&
                     s.transpose_b && !s.accumulate && !s.wide && !s.wide_a && !s.wide_b &&
                     s.epilogue != Epilogue::GeluGrad && s.k > 0 && s.k % 8 == 0 && s.n < kMost &&
                     s.k < kMost && aligned(o.a) && aligned(o.b);
  if (!suits) return false;
  run_few_rows(queue,
               {.x = static_cast<const Bf16*>(o.a),
                .w = static_cast<const Bf16*>(o.b),
                .bias = static_cast<const Bf16*>(o.bias),
                .addend = static_cast<const Bf16*>(o.addend),
                .pre = s.epilogue == Epilogue::BiasGelu ? static_cast<Bf16*>(o.pre) : nullptr,
                .c = static_cast<Bf16*>(o.c),
                .rows = static_cast<int>(s.m),
                .n = static_cast<int>(s.n),
                .k = static_cast<int>(s.k),
                .epilogue = s.epilogue});
  return true;
}

}  // namespace imhotep::kernels::cuda
