#include "kernels/grouped_gemm.h"

#include "core/base/fail.h"
#include "kernels/select.h"

namespace imhotep::kernels {
namespace {

void check_offsets(const char* family, const std::int32_t* offsets, std::int64_t experts,
                   std::int64_t bound) {
  for (std::int64_t e = 0; e < experts; ++e) {
    if (offsets[e + 1] < offsets[e]) {
      fail("{}: the rows of expert {} are [{}, {})", family, e, offsets[e], offsets[e + 1]);
    }
  }
  if (offsets[experts] > bound) {
    fail("{}: {} rows exceed the bound of {}", family, offsets[experts], bound);
  }
}

}  // namespace

void grouped_gemm(const Queue& queue, const GroupedGemm& shape,
                  const GroupedGemmOperands& operands) {
  const char* family = "grouped_gemm";
  require(shape.epilogue != Epilogue::BiasResidual, family, "no residual epilogue exists");
  const bool slope = shape.epilogue == Epilogue::GeluGrad;
  const GroupedMode place = slope ? GroupedMode::GradInput : GroupedMode::Forward;
  require(shape.mode == place || shape.epilogue == Epilogue::None, family,
          "this mode has no such epilogue");
  require(!slope || operands.pre != nullptr, family, "GeluGrad needs what was activated");
  require(shape.epilogue != Epilogue::BiasGelu || operands.bias != nullptr, family,
          "BiasGelu needs a bias");
  if (on_cuda(queue, family, &CudaFamilies::grouped_gemm, shape, operands)) return;
  on_cpu(queue, family, [&](auto zero) {
    check_offsets(family, operands.expert_offsets, shape.experts, shape.rows.bound);
    cpu::grouped_gemm<decltype(zero)>(shape, operands);
  });
}

void grouped_column_sum(const Queue& queue, const GroupedColumnSum& shape,
                        const GroupedColumnSumOperands& operands) {
  const char* family = "grouped_column_sum";
  if (on_cuda(queue, family, &CudaFamilies::grouped_column_sum, shape, operands)) return;
  on_cpu(queue, family, [&](auto zero) {
    check_offsets(family, operands.expert_offsets, shape.experts, shape.rows.bound);
    cpu::grouped_column_sum<decltype(zero)>(shape, operands);
  });
}

}  // namespace imhotep::kernels
