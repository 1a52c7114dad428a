#include "kernels/norm_gemm.h"

#include "kernels/select.h"

namespace imhotep::kernels {

void norm_gemm(const Queue& queue, const NormGemm& shape, const NormGemmOperands& operands) {
  const char* family = "norm_gemm";
  require(shape.rows >= 0 && shape.n >= 0 && shape.k > 0, family, "expected rows, n >= 0, k > 0");
  require(shape.epilogue == Epilogue::None || shape.epilogue == Epilogue::Bias ||
              shape.epilogue == Epilogue::BiasGelu,
          family, "expected the epilogue none, bias or bias_gelu");
  require(shape.epilogue == Epilogue::None || operands.bias != nullptr, family,
          "the epilogue needs a bias");
  if (shape.rows == 0 || shape.n == 0) return;
  if (on_cuda(queue, family, &CudaFamilies::norm_gemm, shape, operands)) return;
  on_cpu(queue, family, [&](auto zero) { cpu::norm_gemm<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
