#pragma once
// What compute capability 9.0a adds, one PTX instruction a function: mbarriers, bulk tensor copies
// (TMA), warpgroup bookkeeping and shared-memory descriptors of wgmma. Only for code inside
// #if defined(__CUDA_ARCH_FEAT_SM90_ALL).   Source: PTX ISA 8.x, sections "mbarrier",
// "cp.async.bulk.tensor", "wgmma" and "setmaxnreg".

#include <cuda.h>

#include <cstdint>

namespace imhotep::kernels::cuda::sm90 {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- mbarrier: a phase completes when `arrivals` threads arrived and all expected bytes came
__device__ inline void barrier_init(std::uint32_t barrier, std::uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes the initialisation visible to the copy engine.
__device__ inline void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ inline void barrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Until the phase of this parity has completed (a fresh barrier is in phase 0: waiting for parity 1
// returns at once). kCluster: also sees what other blocks of the cluster wrote before they arrived.
template <bool kCluster = false>
__device__ inline void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t done = 0;
  while (done == 0) {
    if constexpr (kCluster) {
      asm volatile(
          "{\n"
          ".reg .pred complete;\n"
          "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 complete, [%1], %2;\n"
          "selp.b32 %0, 1, 0, complete;\n"
          "}\n"
          : "=r"(done)
          : "r"(barrier), "r"(parity)
          : "memory");
    } else {
      asm volatile(
          "{\n"
          ".reg .pred complete;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
          "selp.b32 %0, 1, 0, complete;\n"
          "}\n"
          : "=r"(done)
          : "r"(barrier), "r"(parity)
          : "memory");
    }
  }
}

// Starts to bring a line to the L2 cache.
__device__ inline void prefetch_line(const void* line) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(line) : "memory");
}

// ---- clusters: the same address in the shared memory of another block
__device__ inline std::uint32_t cluster_rank() {
  std::uint32_t rank = 0;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline std::uint32_t address_in(std::uint32_t address, std::uint32_t rank) {
  std::uint32_t mapped = 0;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}
// Orders nothing but what wgmma has read: .release.cluster would wait for all of the thread's
// stores, which takes longer than the products of a stage.
__device__ inline void barrier_arrive_in(std::uint32_t barrier, std::uint32_t rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address_in(barrier, rank))
               : "memory");
}
// Counts its 4 bytes at the barrier of the block it stores to.
__device__ inline void store_shared_in(std::uint32_t to, std::uint32_t barrier, std::uint32_t rank,
                                       int value) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
          address_in(to, rank)),
      "r"(value), "r"(address_in(barrier, rank))
      : "memory");
}
// All threads of the cluster that have not ended.
__device__ inline void cluster_barrier() {
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
}

// ---- TMA: a box of a two-dimensional tensor; coordinates in elements, innermost first
__device__ inline void tensor_prefetch(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<std::uint64_t>(&map)) : "memory");
}
__device__ inline void tensor_load(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier,
                                   std::int32_t inner, std::int32_t outer) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(barrier), "r"(inner), "r"(outer)
      : "memory");
}

// To the same address, and counted by the same barrier, in every block of the cluster whose bit is
// set in `blocks`.
__device__ inline void tensor_load_all(std::uint32_t to, const CUtensorMap& map,
                                       std::uint32_t barrier, std::int32_t inner,
                                       std::int32_t outer, std::uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(barrier), "r"(inner), "r"(outer), "h"(blocks)
      : "memory");
}

// From shared memory. A thread's stores form groups; a group is pending until its memory is read.
__device__ inline void tensor_store(const CUtensorMap& map, std::uint32_t from, std::int32_t inner,
                                    std::int32_t outer) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
                   reinterpret_cast<std::uint64_t>(&map)),
               "r"(from), "r"(inner), "r"(outer)
               : "memory");
}
__device__ inline void stores_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void stores_wait() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

// ---- order between ordinary accesses to shared memory and those of wgmma and TMA
__device__ inline void proxy_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// A barrier among `threads` threads, a multiple of 32. Id 0 is __syncthreads.
__device__ inline void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- registers between warpgroups
template <int kRegisters>
__device__ inline void registers_release() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- 8x8 matrices of 16-bit elements between registers and rows of 16 bytes in shared memory:
// lane i holds elements (i / 4, 2 (i % 4) + {0, 1}); with kTransposed the memory holds columns.
// Lanes 0-7 give the rows of the first matrix, 8-15 of the second, and so on.
template <bool kTransposed>
__device__ inline void store_matrices(std::uint32_t to, const std::uint32_t (&r)[4]) {
  if constexpr (kTransposed) {
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
        "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
        : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
  }
}
template <bool kTransposed>
__device__ inline void load_matrices(std::uint32_t from, std::uint32_t (&r)[4]) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
  }
}
__device__ inline void store_shared(std::uint32_t to, const uint4& value) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}
__device__ inline int load_shared_word(std::uint32_t from) {
  int value = 0;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}
__device__ inline uint4 load_shared(std::uint32_t from) {
  uint4 value;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(from)
               : "memory");
  return value;
}

}  // namespace imhotep::kernels::cuda::sm90
