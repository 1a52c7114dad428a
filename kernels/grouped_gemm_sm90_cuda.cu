// The grouped product for compute capability 9.0a: one persistent kernel a call, one block an SM.
// Blocks go in pairs: 256 of M between them, each loads half of the rows for both. A block has
// three warpgroups. One thread of the first takes tiles off a counter in memory and issues TMA
// loads into a ring of stages (128 by 64 of the weight, up to 256 by 64 of the rows); the two
// others multiply with wgmma, 64 by N accumulators each, and write results while the loads of the
// next tile run. The second group starts two steps late, so that one group's epilogue falls on the
// other's products. Nothing about the experts is read by the host.

#include <cuda.h>

#include "kernels/grouped_gemm_cuda.h"
#include "kernels/grouped_gemm_epilogue.cuh"

namespace imhotep::kernels::cuda {
namespace {

using sm90::Product;

// Which tile comes next: the first block of a pair takes it off the counter and tells the second.
[[maybe_unused]] __device__ int next_item(const Product& p, sm90::Shared& shared, int rank,
                                          std::uint32_t slot, std::uint32_t turn, int& item,
                                          int items) {
  const std::uint32_t free = sm90::shared_address(shared.tile_empty + slot);
  sm90::barrier_wait(free, turn ^ 1);
  const std::uint32_t told = sm90::shared_address(shared.item_full + slot);
  const std::uint32_t place = sm90::shared_address(shared.items + slot);
  if (rank > 0) {
    sm90::barrier_arrive_expect(told, sizeof(int));
    sm90::barrier_wait<true>(told, turn);
    const int found = sm90::load_shared_word(place);
    sm90::barrier_arrive_in(free, 0);
    return found;
  }
  const int found = item < items ? item : -1;
  sm90::store_shared_in(place, told, 1, found);
  if (found >= 0) item = static_cast<int>(gridDim.x) / sm90::kBlocks + atomicAdd(p.next_item, 1);
  return found;
}

template <GroupedMode kMode>
__device__ __forceinline__ void produce(const Product& p, const sm90::Maps& maps, int rank,
                                        sm90::Shared& shared) {
  sm90::Ring ring(shared, p.stages);
  const int items = shared.first_item[p.experts];
  int item = static_cast<int>(blockIdx.x) / sm90::kBlocks;
  for (std::uint32_t count = 0;; ++count) {
    const std::uint32_t slot = count % sm90::kTileSlots, turn = count / sm90::kTileSlots % 2;
    const int now = next_item(p, shared, rank, slot, turn, item, items);
    sm90::Tile tile = {.expert = -1};
    if (now >= 0) {
      tile = sm90::tile_of<kMode>(p, shared, now);
      tile.m += rank * sm90::kTileM;
    }
    shared.tiles[slot] = tile;
    sm90::barrier_arrive(sm90::shared_address(shared.tile_full + slot));
    if (now < 0) return;
    if constexpr (kMode == GroupedMode::GradWeight) {
      sm90::load_rows(tile, maps, rank, ring);
    } else {
      sm90::load_tile<kMode>(p, tile, maps, rank, ring);
    }
  }
}

template <GroupedMode kMode>
__device__ __forceinline__ void consume(const Product& p, const sm90::Maps& maps,
                                        sm90::Shared& shared) {
  const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / kWarp, 0);
  const int group = warp / (sm90::kGroupThreads / kWarp) - 1;
  const int buffers = sm90::staging_buffers(p.stages);
  sm90::Ring ring(shared, p.stages);
  sm90::Consumer me{
      .group = group,
      .thread = static_cast<int>(threadIdx.x) % sm90::kGroupThreads,
      .warp = warp % (sm90::kGroupThreads / kWarp),
      .lane = static_cast<int>(threadIdx.x) % kWarp,
      .staging = ring.stages + p.stages * sm90::kStageBytes + group * buffers * sm90::kBlockBytes,
      .buffers = buffers};
  float sum[128];
  sm90::clear(sum, std::make_integer_sequence<int, 128>{});
  for (std::uint32_t count = 0;; ++count) {
    const std::uint32_t slot = count % sm90::kTileSlots, turn = count / sm90::kTileSlots % 2;
    sm90::barrier_wait(sm90::shared_address(shared.tile_full + slot), turn);
    const sm90::Tile tile = shared.tiles[slot];
    __syncwarp();
    if (me.lane == 0) sm90::barrier_arrive(sm90::shared_address(shared.tile_empty + slot));
    if (tile.expert < 0) break;
    float bias[2] = {};
    sm90::ask<kMode>(p, tile, me, bias);
    const int depth = kMode == GroupedMode::GradWeight ? tile.rows : p.depth;
    const int steps = (depth + sm90::kTileDepth - 1) / sm90::kTileDepth;
    if (count == 0 && group == 1) {
      sm90::named_barrier(sm90::kStartBarrier, sm90::kConsumers * sm90::kGroupThreads);
    }
    me.start_signal = count == 0 && group == 0 ? min(1, steps - 1) : -1;
    if (steps > 0) {
      sm90::multiply_any<kMode>(sum, tile, steps, ring, me);
    } else {  // an expert without rows
      sm90::clear(sum, std::make_integer_sequence<int, 128>{});
      if (count == 0 && group == 0) {
        sm90::named_barrier_arrive(sm90::kStartBarrier, sm90::kConsumers * sm90::kGroupThreads);
      }
    }
    sm90::finish_tile<kMode>(sum, p, maps, tile, me, bias);
  }
  if (sm90::stores<kMode>(me)) sm90::stores_wait<0>();  // shared memory ends with the block
}

// The 1 lets setmaxnreg move registers: 65536 / 384 = 168 a thread at the start.
template <GroupedMode kMode>
__global__ void __launch_bounds__(sm90::kThreads, 1)
    grouped_kernel(const __grid_constant__ sm90::Maps maps, const __grid_constant__ Product p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char memory[];
  const std::uint32_t misplaced = sm90::shared_address(memory) % sm90::kAtomBytes;
  auto& shared = *reinterpret_cast<sm90::Shared*>(
      memory + (misplaced == 0 ? 0 : sm90::kAtomBytes - misplaced));
  const int rank = static_cast<int>(sm90::cluster_rank());
  if (threadIdx.x == 0) {
    sm90::tensor_prefetch(maps.a);
    sm90::tensor_prefetch(maps.b);
    constexpr int kReaders = sm90::kConsumerWarps * sm90::kBlocks;
    for (int i = 0; i < sm90::kStages; ++i) {
      sm90::barrier_init(sm90::shared_address(shared.full + i), 1);
      sm90::barrier_init(sm90::shared_address(shared.empty + i), kReaders);
    }
    for (int i = 0; i < sm90::kTileSlots; ++i) {
      sm90::barrier_init(sm90::shared_address(shared.tile_full + i), 1);
      sm90::barrier_init(sm90::shared_address(shared.tile_empty + i),
                         sm90::kConsumerWarps + (rank == 0 ? sm90::kBlocks - 1 : 0));
      sm90::barrier_init(sm90::shared_address(shared.item_full + i), 1);
    }
    sm90::barrier_init_fence();
  }
  sm90::count_items<kMode>(p, shared);  // ends with a barrier
  sm90::cluster_barrier();              // the peer's barriers are ready
  if (threadIdx.x < sm90::kGroupThreads) {
    sm90::registers_release<sm90::kProducerRegisters>();
    if (threadIdx.x == 0) produce<kMode>(p, maps, rank, shared);
  } else {
    sm90::registers_take<sm90::kConsumerRegisters>();
    consume<kMode>(p, maps, shared);
  }
  sm90::cluster_barrier();  // nobody arrives at a block that has ended
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
  allow(grouped_kernel<GroupedMode::Forward>);
  allow(grouped_kernel<GroupedMode::GradInput>);
  allow(grouped_kernel<GroupedMode::GradWeight>);
  driver.prepared = true;
  return driver;
}

// A row-major bf16 matrix, in boxes of `box` rows of 64 elements. Outside it reads zeros.
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

template <GroupedMode kMode>
void launch(const Queue& queue, const sm90::Maps& maps, Product p) {
  p.stages = kMode == GroupedMode::GradWeight ? 3 : 4;
  p.next_item = static_cast<int*>(queue.workspace);
  p.fault = queue.fault;
  const cudaStream_t stream = stream_of(queue);
  IMHOTEP_CUDA(cudaMemsetAsync(p.next_item, 0, sizeof(int), stream));
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = sm90::kBlocks;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim =
      static_cast<unsigned>(context_of(queue).multiprocessors / sm90::kBlocks * sm90::kBlocks);
  config.blockDim = sm90::kThreads;
  config.dynamicSmemBytes = kSharedBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  IMHOTEP_CUDA(cudaLaunchKernelEx(&config, grouped_kernel<kMode>, maps, p));
  IMHOTEP_LAUNCHED("grouped_gemm_sm90");
}

}  // namespace

void grouped_gemm_sm90(const Queue& queue, const GroupedGemm& s, const GroupedGemmOperands& o) {
  const Driver& driver = driver_of(queue);
  const std::int64_t rows = s.rows.bound, lines = s.experts * s.n;
  const int n = static_cast<int>(s.n), k = static_cast<int>(s.k);
  const auto map = [&](const void* data, std::int64_t height, std::int64_t columns, int box) {
    return data != nullptr ? matrix_map(driver, data, height, columns, box) : CUtensorMap{};
  };
  Product p{.offsets = o.expert_offsets,
            .experts = static_cast<int>(s.experts),
            .bound = static_cast<int>(rows)};
  sm90::Maps maps{};
  switch (s.mode) {
    case GroupedMode::Forward:
      p.m = n;
      p.depth = k;
      p.out = static_cast<Bf16*>(o.out);
      p.bias = s.epilogue != Epilogue::None ? static_cast<const Bf16*>(o.bias) : nullptr;
      p.gelu = s.epilogue == Epilogue::BiasGelu;
      p.pre = static_cast<Bf16*>(o.pre);
      maps = {map(o.weight, lines, k, sm90::kTileM), map(o.in, rows, k, sm90::kBox),
              map(o.out, rows, n, 64), p.gelu ? map(o.pre, rows, n, 64) : CUtensorMap{}};
      return launch<GroupedMode::Forward>(queue, maps, p);
    case GroupedMode::GradInput:
      p.m = k;
      p.depth = n;
      p.out = static_cast<Bf16*>(o.out);
      p.other = s.epilogue == Epilogue::GeluGrad ? static_cast<const Bf16*>(o.pre) : nullptr;
      maps = {map(o.weight, lines, k, 64), map(o.in, rows, n, sm90::kBox), map(o.out, rows, k, 64),
              CUtensorMap{}};
      return launch<GroupedMode::GradInput>(queue, maps, p);
    case GroupedMode::GradWeight:
      p.m = n;
      p.columns = k;
      p.out = static_cast<Bf16*>(o.d_weight);
      p.other = s.accumulate ? p.out : nullptr;
      maps = {map(o.in, rows, n, sm90::kBox), map(o.activation, rows, k, sm90::kBox),
              map(o.d_weight, lines, k, 16), CUtensorMap{}};
      return launch<GroupedMode::GradWeight>(queue, maps, p);
  }
}

}  // namespace imhotep::kernels::cuda
