#pragma once
// PTX that attention over tiles needs: copies into shared memory that run on their own, fragments,
// and bf16 products with fp32 sums. Compute capability 8.0 and newer.

#include <cuda_bf16.h>

#include <cstdint>

namespace imhotep::kernels::cuda::paged {

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
// 16 bytes, or zeros.
__device__ inline void copy_async(void* to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}
__device__ inline void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ inline void wait_for_all_but_one() {
  asm volatile("cp.async.wait_group 1;" ::: "memory");
}

struct Four {
  std::uint32_t value[4];
};
__device__ inline Four load_matrices(const void* from) {
  Four f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(f.value[0]), "=r"(f.value[1]), "=r"(f.value[2]), "=r"(f.value[3])
               : "r"(shared_address(from))
               : "memory");
  return f;
}
__device__ inline Four load_transposed(const void* from) {
  Four f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(f.value[0]), "=r"(f.value[1]), "=r"(f.value[2]), "=r"(f.value[3])
               : "r"(shared_address(from))
               : "memory");
  return f;
}
__device__ inline void multiply(float (&c)[4], const Four& a, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.value[0]), "r"(a.value[1]), "r"(a.value[2]), "r"(a.value[3]), "r"(b0), "r"(b1));
}
__device__ inline std::uint32_t pair(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}
// Over the four lanes that hold a row of a product.
__device__ inline float max_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
}
__device__ inline float sum_of_row(float x) {
  x += __shfl_xor_sync(0xffffffffU, x, 1);
  return x + __shfl_xor_sync(0xffffffffU, x, 2);
}

}  // namespace imhotep::kernels::cuda::paged
