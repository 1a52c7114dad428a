// The grouped product for compute capability 9.0a: one persistent kernel a call, one block an SM.
// A block has three warpgroups. One thread of the first takes tiles off a counter in memory and
// issues TMA loads into a ring of four stages (128 by 64 of the weight, up to 256 by 64 of the
// rows); the two others multiply with wgmma, 64 by N accumulators each, and write results while
// the loads of the next tile run. The second group starts two steps late, so that one group's
// epilogue falls on the other's products. Nothing about the experts is read by the host.

#include <cuda.h>

#include "kernels/grouped_gemm_cuda.h"
#include "kernels/grouped_gemm_epilogue.cuh"

namespace imhotep::kernels::cuda {
namespace {

using sm90::Product;

// Tells both blocks of a pair, or this one, which tile comes next.
template <int kBlocks>
__device__ void announce(sm90::Shared& shared, std::uint32_t slot, const sm90::Tile& tile) {
  const std::uint32_t filled = sm90::shared_address(shared.tile_full + slot);
  if constexpr (kBlocks > 1) {
    const std::uint32_t to = sm90::shared_address(shared.tiles + slot);
    for (std::uint32_t rank = 0; rank < kBlocks; ++rank) {
      sm90::store_shared_in(to, rank, {tile.expert, tile.first_row, tile.rows, tile.m});
      sm90::store_shared_in(to + sizeof(int4), rank, {tile.column, tile.columns, 0, 0});
      sm90::barrier_arrive_in(filled, rank);
    }
  } else {
    shared.tiles[slot] = tile;
    sm90::barrier_arrive(filled);
  }
}

template <GroupedMode kMode, int kBlocks>
__device__ __forceinline__ void produce(const Product& p, const CUtensorMap& map_a,
                                        const CUtensorMap& map_b, int rank, sm90::Shared& shared) {
  sm90::Ring ring(shared);
  const int items = shared.first_item[p.experts];
  const int clusters = static_cast<int>(gridDim.x) / kBlocks;
  int item = static_cast<int>(blockIdx.x) / kBlocks;
  for (std::uint32_t count = 0;; ++count) {
    const std::uint32_t slot = count % sm90::kTileSlots, turn = count / sm90::kTileSlots % 2;
    sm90::Tile tile;
    if (rank == 0) {
      sm90::barrier_wait<(kBlocks > 1)>(sm90::shared_address(shared.tile_empty + slot), turn ^ 1);
      int next = item;
      if (item < items) {
        next = clusters + atomicAdd(p.next_item, 1);
        tile = sm90::tile_of<kMode, kBlocks>(p, shared.first_item, item);
      } else {
        tile.expert = -1;
      }
      announce<kBlocks>(shared, slot, tile);
      item = next;
    } else {
      sm90::barrier_wait<true>(sm90::shared_address(shared.tile_full + slot), turn);
      tile = shared.tiles[slot];
      sm90::barrier_arrive_in(sm90::shared_address(shared.tile_empty + slot), 0);
    }
    if (tile.expert < 0) return;
    tile.m += rank * sm90::kTileM;
    sm90::load_tile<kMode, kBlocks>(p, tile, map_a, map_b, rank, ring);
  }
}

template <GroupedMode kMode, int kBlocks>
__device__ __forceinline__ void consume(const Product& p, int rank, sm90::Shared& shared) {
  const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / kWarp, 0);
  const int group = warp / (sm90::kGroupThreads / kWarp) - 1;
  sm90::Consumer me{.group = group,
                    .thread = static_cast<int>(threadIdx.x) % sm90::kGroupThreads,
                    .warp = warp % (sm90::kGroupThreads / kWarp),
                    .lane = static_cast<int>(threadIdx.x) % kWarp};
  sm90::Ring ring(shared);
  const std::uint32_t staging = sm90::shared_address(shared.staging[group]);
  float sum[128];
  sm90::clear(sum, std::make_integer_sequence<int, 128>{});
  for (std::uint32_t count = 0;; ++count) {
    const std::uint32_t slot = count % sm90::kTileSlots, turn = count / sm90::kTileSlots % 2;
    sm90::barrier_wait<(kBlocks > 1)>(sm90::shared_address(shared.tile_full + slot), turn);
    sm90::Tile tile = shared.tiles[slot];
    tile.m += rank * sm90::kTileM;
    __syncwarp();
    if (me.lane == 0) {
      const std::uint32_t free = sm90::shared_address(shared.tile_empty + slot);
      if constexpr (kBlocks > 1) {
        sm90::barrier_arrive_in(free, 0);
      } else {
        sm90::barrier_arrive(free);
      }
    }
    if (tile.expert < 0) return;
    const int depth = kMode == GroupedMode::GradWeight ? tile.rows : p.depth;
    const int steps = (depth + sm90::kTileDepth - 1) / sm90::kTileDepth;
    if (count == 0 && group == 1) {
      sm90::named_barrier(sm90::kStartBarrier, sm90::kConsumers * sm90::kGroupThreads);
    }
    me.start_signal = count == 0 && group == 0 ? min(1, steps - 1) : -1;
    if (steps > 0) {
      sm90::multiply_any<kMode, kBlocks>(sum, tile, steps, ring, me);
    } else {  // an expert without rows
      sm90::clear(sum, std::make_integer_sequence<int, 128>{});
      if (count == 0 && group == 0) {
        sm90::named_barrier_arrive(sm90::kStartBarrier, sm90::kConsumers * sm90::kGroupThreads);
      }
    }
    sm90::finish_tile<kMode>(sum, p, tile, me, staging);
  }
}

// The 1 lets setmaxnreg move registers: 65536 / 384 = 168 a thread at the start.
template <GroupedMode kMode, int kBlocks>
__global__ void __launch_bounds__(sm90::kThreads, 1)
    grouped_kernel(const __grid_constant__ CUtensorMap map_a,
                   const __grid_constant__ CUtensorMap map_b, const __grid_constant__ Product p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char memory[];
  const std::uint32_t misplaced = sm90::shared_address(memory) % sm90::kAtomBytes;
  auto& shared = *reinterpret_cast<sm90::Shared*>(
      memory + (misplaced == 0 ? 0 : sm90::kAtomBytes - misplaced));
  const int rank = kBlocks > 1 ? static_cast<int>(sm90::cluster_rank()) : 0;
  if (threadIdx.x == 0) {
    sm90::tensor_prefetch(map_a);
    sm90::tensor_prefetch(map_b);
    constexpr int kReaders = sm90::kConsumerWarps * kBlocks;
    for (int i = 0; i < sm90::kStages; ++i) {
      sm90::barrier_init(sm90::shared_address(shared.full + i), 1);
      sm90::barrier_init(sm90::shared_address(shared.empty + i), kReaders);
    }
    for (int i = 0; i < sm90::kTileSlots; ++i) {
      sm90::barrier_init(sm90::shared_address(shared.tile_full + i), 1);
      sm90::barrier_init(sm90::shared_address(shared.tile_empty + i), kReaders + kBlocks - 1);
    }
    sm90::barrier_init_fence();
  }
  sm90::count_items<kMode, kBlocks>(p, shared.first_item);  // ends with a barrier
  if constexpr (kBlocks > 1) sm90::cluster_barrier();       // the peer's barriers are ready
  if (threadIdx.x < sm90::kGroupThreads) {
    sm90::registers_release<sm90::kProducerRegisters>();
    if (threadIdx.x == 0) produce<kMode, kBlocks>(p, map_a, map_b, rank, shared);
  } else {
    sm90::registers_take<sm90::kConsumerRegisters>();
    consume<kMode, kBlocks>(p, rank, shared);
  }
  if constexpr (kBlocks > 1) sm90::cluster_barrier();  // nobody arrives at a block that has ended
#endif
}

using Encode = decltype(&cuTensorMapEncodeTiled);

struct Driver {  // libcuda is not linked: its one function comes through the runtime
  Encode encode = nullptr;
  bool prepared = false;
};

constexpr int kSharedBytes = static_cast<int>(sizeof(sm90::Shared)) + sm90::kAtomBytes;
static_assert(kSharedBytes <= 232448, "more than a block may have");

Driver& driver_of(const Queue& queue) {
  auto& driver = context_of(queue).get<Driver>();
  if (driver.prepared) return driver;
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  IMHOTEP_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                cudaEnableDefault, &found));
  expect(found == cudaDriverEntryPointSuccess, "grouped_gemm", "the driver has no tensor maps");
  driver.encode = reinterpret_cast<Encode>(entry);
  const auto allow = [](auto* kernel) {
    IMHOTEP_CUDA(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  };
  allow(grouped_kernel<GroupedMode::Forward, 1>);
  allow(grouped_kernel<GroupedMode::Forward, 2>);
  allow(grouped_kernel<GroupedMode::GradInput, 1>);
  allow(grouped_kernel<GroupedMode::GradInput, 2>);
  allow(grouped_kernel<GroupedMode::GradWeight, 1>);
  allow(grouped_kernel<GroupedMode::GradWeight, 2>);
  driver.prepared = true;
  return driver;
}

// A row-major bf16 matrix, read in boxes of `box` rows of 64 elements. Outside it reads zeros.
CUtensorMap matrix_map(const Driver& driver, const void* data, std::int64_t rows,
                       std::int64_t columns, int box) {
  CUtensorMap map;
  const cuuint64_t extent[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t stride[1] = {static_cast<cuuint64_t>(columns) * sizeof(Bf16)};
  const cuuint32_t shape[2] = {64, static_cast<cuuint32_t>(box)}, step[2] = {1, 1};
  const CUresult status =
      driver.encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), extent,
                    stride, shape, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  expect(status == CUDA_SUCCESS, "grouped_gemm", "cuTensorMapEncodeTiled refused a matrix");
  return map;
}

template <GroupedMode kMode, int kBlocks>
void launch(const Queue& queue, const CUtensorMap& map_a, const CUtensorMap& map_b, Product p) {
  p.next_item = static_cast<int*>(queue.workspace);
  p.fault = queue.fault;
  const cudaStream_t stream = stream_of(queue);
  IMHOTEP_CUDA(cudaMemsetAsync(p.next_item, 0, sizeof(int), stream));
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kBlocks;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = static_cast<unsigned>(context_of(queue).multiprocessors / kBlocks * kBlocks);
  config.blockDim = sm90::kThreads;
  config.dynamicSmemBytes = kSharedBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  IMHOTEP_CUDA(cudaLaunchKernelEx(&config, grouped_kernel<kMode, kBlocks>, map_a, map_b, p));
  IMHOTEP_LAUNCHED("grouped_gemm_sm90");
}

template <GroupedMode kMode>
void launch(const Queue& queue, bool pairs, const CUtensorMap& map_a, const CUtensorMap& map_b,
            const Product& p) {
  if (pairs) return launch<kMode, 2>(queue, map_a, map_b, p);
  launch<kMode, 1>(queue, map_a, map_b, p);
}

}  // namespace

void grouped_gemm_sm90(const Queue& queue, const GroupedGemm& s, const GroupedGemmOperands& o,
                       bool pairs) {
  const Driver& driver = driver_of(queue);
  const std::int64_t rows = s.rows.bound;
  const int n = static_cast<int>(s.n), k = static_cast<int>(s.k);
  Product p{.offsets = o.expert_offsets,
            .experts = static_cast<int>(s.experts),
            .bound = static_cast<int>(rows)};
  const auto map = [&](const void* data, std::int64_t height, std::int64_t columns, int box) {
    return matrix_map(driver, data, height, columns, box);
  };
  switch (s.mode) {
    case GroupedMode::Forward:
      p.m = n;
      p.depth = k;
      p.out = static_cast<Bf16*>(o.out);
      p.bias = s.epilogue != Epilogue::None ? static_cast<const Bf16*>(o.bias) : nullptr;
      p.gelu = s.epilogue == Epilogue::BiasGelu;
      p.pre = static_cast<Bf16*>(o.pre);
      return launch<GroupedMode::Forward>(queue, pairs,
                                          map(o.weight, s.experts * n, k, sm90::kTileM),
                                          map(o.in, rows, k, sm90::kBox), p);
    case GroupedMode::GradInput:
      p.m = k;
      p.depth = n;
      p.out = static_cast<Bf16*>(o.out);
      p.other = s.epilogue == Epilogue::GeluGrad ? static_cast<const Bf16*>(o.pre) : nullptr;
      return launch<GroupedMode::GradInput>(queue, pairs, map(o.weight, s.experts * n, k, 64),
                                            map(o.in, rows, n, sm90::kBox), p);
    case GroupedMode::GradWeight:
      p.m = n;
      p.columns = k;
      p.out = static_cast<Bf16*>(o.d_weight);
      p.other = s.accumulate ? p.out : nullptr;
      return launch<GroupedMode::GradWeight>(queue, pairs, map(o.in, rows, n, 64),
                                             map(o.activation, rows, k, 64), p);
  }
}

}  // namespace imhotep::kernels::cuda
