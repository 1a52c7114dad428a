#pragma once
// The ring of the decode stack: a producer warp streams weights into shared memory with bulk
// copies, eight consumer warps multiply them. Only for decode_stack_cuda.cu.
//
// Block b of G owns the rows [n b / G, n (b + 1) / G) of every matrix [n, k]. A slot of the ring
// holds at most 8 rows times 1024 columns, one bulk copy a row; its pitch is 64 bytes more than a
// row, so that 16-byte reads of neighbouring rows meet no bank conflicts. The 8 warps divide the
// columns of a slot in chunks of 32 and multiply with mma.m16n8k16, weights as operand A (its upper
// 8 rows are zeros) and at most 8 activation rows as the columns of B. Their sums of up to 8 tiles
// meet in shared memory in a fixed order.
//
// Waiting between blocks: one counter that only grows. All threads of a block come to a barrier,
// one adds with release and polls with acquire, then all go on.

#include "kernels/few_rows_norm.cuh"

namespace imhotep::kernels::cuda {

inline constexpr int kStackColumns = 8;  // rows of activations, and routes
inline constexpr int kSlotRows = 8, kSlotWidth = 1024;
inline constexpr int kSlotPitch = 2 * kSlotWidth + 64, kSlotBytes = kSlotRows * kSlotPitch;
inline constexpr int kMostSlots = 12, kLeastSlots = 4;
inline constexpr int kConsumers = 256, kConsumerWarps = kConsumers / kWarp;
inline constexpr int kStackThreads = kConsumers + kWarp;
inline constexpr int kSumTiles = 8, kGroupRows = kSumTiles * kSlotRows;
inline constexpr int kTileSums = kSlotRows * kStackColumns;  // floats of a warp
inline constexpr int kStackSumBytes = kSumTiles * kConsumerWarps * kTileSums * 4;

[[nodiscard]] __host__ __device__ constexpr int stack_pitch(int width) { return 2 * width + 64; }

__device__ inline int consumer_warp() { return static_cast<int>(threadIdx.x) / kWarp; }
__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline void consumers_sync() { asm volatile("bar.sync 1, 256;" ::: "memory"); }

// ---- mbarriers and bulk copies

__device__ inline void barrier_init(std::uint32_t barrier, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
__device__ inline void barrier_wait(std::uint32_t barrier, std::uint32_t phase) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(barrier),
      "r"(phase)
      : "memory");
#endif
}
__device__ inline void barrier_arrive(std::uint32_t barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#endif
}
__device__ inline void barrier_expect(std::uint32_t barrier, int bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}
__device__ inline void bulk_copy(std::uint32_t to, const void* from, int bytes,
                                 std::uint32_t barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
#endif
}

// ---- the grid

struct GridBarrier {
  unsigned* arrivals = nullptr;  // zero when the kernel starts
  unsigned target = 0;

  __device__ void arrive() {
    consumers_sync();
    target += gridDim.x;
    if (threadIdx.x == 0) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
      asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrivals) : "memory");
#endif
    }
  }
  // Also until this thread's copies to shared memory are done.
  __device__ void wait() const {
    if (threadIdx.x == 0) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
      unsigned seen = 0;
      do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrivals) : "memory");
      } while (seen < target);
#endif
    }
    await_copies<0>();
    consumers_sync();
  }
};

// ---- the ring

struct StackShare {  // rows of a matrix that are this block's
  int begin, end;
  __device__ explicit StackShare(int n)
      : begin(static_cast<int>(static_cast<std::int64_t>(n) * blockIdx.x / gridDim.x)),
        end(static_cast<int>(static_cast<std::int64_t>(n) * (blockIdx.x + 1) / gridDim.x)) {}
};

struct StackRing {
  std::uint32_t memory, full, empty;  // shared addresses; a barrier a slot
  int slots, slot = 0;
  std::uint32_t phase = 0;

  __device__ void advance() {
    if (++slot == slots) {
      slot = 0;
      phase ^= 1;
    }
  }
};

// By the producer warp: the block's rows of w [n, k], in the order in which multiply takes them.
__device__ inline void produce(StackRing& ring, const Bf16* w, int n, int k) {
  const StackShare rows(n);
  const int lane = lane_id();
  for (int row = rows.begin; row < rows.end; row += kSlotRows) {
    const int count = min(kSlotRows, rows.end - row);
    for (int col = 0; col < k; col += kSlotWidth) {
      const int bytes = 2 * min(kSlotWidth, k - col);
      const std::uint32_t full = ring.full + 8 * ring.slot;
      barrier_wait(ring.empty + 8 * ring.slot, ring.phase ^ 1);
      if (lane == 0) barrier_expect(full, count * bytes);
      __syncwarp();
      if (lane < count) {
        bulk_copy(ring.memory + ring.slot * kSlotBytes + lane * kSlotPitch,
                  w + static_cast<std::int64_t>(row + lane) * k + col, bytes, full);
      }
      ring.advance();
    }
  }
}

struct StackActs {        // activations in shared memory
  std::uint32_t at;       // shared address
  int width, columns;     // k; how many columns the products have
  int columns_a_row = 1;  // columns that share a row of activations
};

// Products of the columns with the block's rows of a matrix [n, acts.width]:
// store(row, column, sum, load(row, column)), where load is called long before store.
template <class Load, class Store>
__device__ void multiply(StackRing& ring, const StackActs& acts, float* sums, int n, Load load,
                         Store store) {
  constexpr int kEach = kGroupRows * kStackColumns / kConsumers;
  constexpr int kChunks = kSlotWidth / kChunk / kConsumerWarps;
  const StackShare rows(n);
  const int thread = static_cast<int>(threadIdx.x), warp = consumer_warp(), lane = lane_id();
  const bool column = lane / 4 < acts.columns;
  const std::uint32_t row_of_lane =
      acts.at + lane / 4 / acts.columns_a_row * stack_pitch(acts.width) + lane % 4 * 16;
  for (int first = rows.begin; first < rows.end; first += kGroupRows) {
    const int last = min(first + kGroupRows, rows.end);
    float loaded[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int e = thread + i * kConsumers, row = first + e / kStackColumns;
      const bool valid = row < last && e % kStackColumns < acts.columns;
      loaded[i] = valid ? load(row, e % kStackColumns) : 0.0F;
    }
    float* to = sums + warp * kTileSums + lane / 4 * kStackColumns + 2 * (lane % 4);
    for (int row = first; row < last; row += kSlotRows, to += kConsumerWarps * kTileSums) {
      float sum[4] = {};
      for (int col = 0; col < acts.width; col += kSlotWidth) {
        const int chunks = min(kSlotWidth, acts.width - col) / kChunk;
        const std::uint32_t w_at =
            ring.memory + ring.slot * kSlotBytes + lane / 4 * kSlotPitch + lane % 4 * 16;
        const uint4 none = make_uint4(0, 0, 0, 0);
        uint4 w[kChunks], x[kChunks];
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          const int chunk = warp + c * kConsumerWarps;
          x[c] = chunk < chunks && column ? load_shared(row_of_lane + 2 * col + chunk * 64) : none;
        }
        barrier_wait(ring.full + 8 * ring.slot, ring.phase);
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          const int chunk = warp + c * kConsumerWarps;
          w[c] = chunk < chunks ? load_shared(w_at + chunk * 64) : none;
        }
#pragma unroll
        for (int c = 0; c < kChunks; ++c) multiply_chunk(sum, w[c], none, x[c]);
        __syncwarp();
        if (lane == 0) barrier_arrive(ring.empty + 8 * ring.slot);
        ring.advance();
      }
      *reinterpret_cast<float2*>(to) = make_float2(sum[0], sum[1]);
    }
    consumers_sync();
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int e = thread + i * kConsumers, row = first + e / kStackColumns;
      if (row >= last || e % kStackColumns >= acts.columns) continue;
      const float* from = sums + e / kTileSums * (kConsumerWarps * kTileSums) + e % kTileSums;
      float total = 0;
#pragma unroll
      for (int w = 0; w < kConsumerWarps; ++w) total += from[w * kTileSums];
      store(row, e % kStackColumns, total, loaded[i]);
    }
    consumers_sync();
  }
}

// ---- activations

// Gain and shift of a norm on their way to `affine`; GridBarrier::wait awaits them.
__device__ inline void fetch_norm(std::uint32_t affine, const Bf16* gain, const Bf16* shift,
                                  int width) {
  for (int i = static_cast<int>(threadIdx.x); i < width / 8; i += kConsumers) {
    copy_async(affine + i * 16, gain + i * 8, true);
    copy_async(affine + 2 * width + i * 16, shift + i * 8, true);
  }
  commit_copies();
}

// Normalised rows of x in `to`, a warp a row. Ends with a barrier.
__device__ inline void norm_to_shared(std::uint32_t to, std::uint32_t affine, const Bf16* x,
                                      int rows, int width) {
  const int warp = consumer_warp(), lane = lane_id(), pieces = width / 8;
  if (warp < rows) {
    const uint4* from = reinterpret_cast<const uint4*>(x + static_cast<std::int64_t>(warp) * width);
    const std::uint32_t row = to + warp * stack_pitch(width);
    constexpr int kBatch = 4;
    float sum = 0, squares = 0;
    for (int first = lane; first < pieces; first += kBatch * kWarp) {
      uint4 v[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int at = first + i * kWarp;
        v[i] = at < pieces ? __ldcg(from + at) : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (first + i * kWarp < pieces) store_shared(row + (first + i * kWarp) * 16, v[i]);
        sum += sum_of(v[i]);
      }
    }
    const float mean = warp_sum(sum) / static_cast<float>(width);
    for (int i = lane; i < pieces; i += kWarp) {
      squares += squares_of(load_shared(row + i * 16), mean);
    }
    const float variance = warp_sum(squares) / static_cast<float>(width);
    const float rstd = rsqrtf(variance + static_cast<float>(kLayerNormEpsilon));
    for (int i = lane; i < pieces; i += kWarp) {
      store_shared(row + i * 16, normed(load_shared(row + i * 16), load_shared(affine + i * 16),
                                        load_shared(affine + 2 * width + i * 16), mean, rstd));
    }
  }
  consumers_sync();
}

// Rows of x in `to`. Ends with a barrier.
__device__ inline void rows_to_shared(std::uint32_t to, const Bf16* x, int rows, int width) {
  const int pieces = width / 8;
  for (int i = static_cast<int>(threadIdx.x); i < rows * pieces; i += kConsumers) {
    const int row = i / pieces, at = i - row * pieces;
    copy_async(to + row * stack_pitch(width) + at * 16,
               x + static_cast<std::int64_t>(row) * width + at * 8, true);
  }
  commit_copies();
  await_copies<0>();
  consumers_sync();
}

}  // namespace imhotep::kernels::cuda
