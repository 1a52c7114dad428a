// The experts' products: entries of the table of CUDA kernels, and which kernel a product takes.
// IMHOTEP_GROUPED_GEMM=plain or sm90 in the environment overrules the choice in tests and
// benchmarks.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kernels/cuda_check.h"
#include "kernels/cuda_context.h"
#include "kernels/cuda_register.h"
#include "kernels/grouped_gemm_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr std::int64_t kMostExperts = 256;                 // sm90::kMaxExperts
constexpr std::int64_t kMostRows = std::int64_t{1} << 31;  // coordinates of tensor maps

bool on_lines(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

}  // namespace

bool fits_sm90(const Queue& queue, const GroupedGemm& s, const GroupedGemmOperands& o) {
  return queue.dtype == Dtype::Bf16 && context_of(queue).compute_major == 9 && s.n % 64 == 0 &&
         s.k % 64 == 0 && s.n > 0 && s.k > 0 && s.experts > 0 && s.experts <= kMostExperts &&
         s.rows.bound > 0 && s.rows.bound < kMostRows && s.experts * s.n < kMostRows &&
         queue.workspace_bytes >= 16 && on_lines(queue.workspace) && on_lines(o.in) &&
         on_lines(o.activation) && on_lines(o.weight) && on_lines(o.pre) && on_lines(o.out) &&
         on_lines(o.d_weight);
}

void grouped_gemm(const Queue& queue, const GroupedGemm& shape,
                  const GroupedGemmOperands& operands) {
  const char* wish = std::getenv("IMHOTEP_GROUPED_GEMM");
  const std::string_view wanted = wish != nullptr ? wish : "";
  const bool fits = fits_sm90(queue, shape, operands);
  const bool forced = wanted == "sm90";
  expect(wanted.empty() || wanted == "plain" || forced, "grouped_gemm",
         "IMHOTEP_GROUPED_GEMM: expected plain or sm90");
  expect(!forced || fits, "grouped_gemm",
         "IMHOTEP_GROUPED_GEMM asks for a kernel that this product does not fit");
  if (fits && wanted != "plain") {
    grouped_gemm_sm90(queue, shape, operands);
  } else {
    grouped_gemm_plain(queue, shape, operands);
  }
}

void add_experts(CudaFamilies& families) {
  families.grouped_gemm = grouped_gemm;
  families.grouped_column_sum = grouped_column_sum;
}

}  // namespace imhotep::kernels::cuda
