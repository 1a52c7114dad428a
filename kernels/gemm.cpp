#include "kernels/gemm.h"

#include <limits>

#include "core/base/fail.h"
#include "kernels/select.h"

namespace imhotep::kernels {
namespace {

void check(const Gemm& shape, const GemmOperands& operands) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  for (const std::int64_t size : {shape.m, shape.n, shape.k}) {
    if (size < 0 || size > kMost) {
      fail("gemm: expected sizes in [0, 2^31), got m {}, n {}, k {}", shape.m, shape.n, shape.k);
    }
  }
  const bool sums = shape.epilogue == Epilogue::BiasGrad;
  const bool plain = shape.epilogue == Epilogue::None || sums;
  require(plain || !shape.accumulate, "gemm", "an epilogue cannot be combined with accumulation");
  require(!sums || (shape.transpose_a && operands.bias_grad != nullptr), "gemm",
          "BiasGrad needs a transposed a and a place for its sums");
  require(!sums || !(shape.wide || shape.wide_a || shape.wide_b), "gemm",
          "BiasGrad takes nothing wide");
  const bool slope = shape.epilogue == Epilogue::GeluGrad;
  require(plain || slope || operands.bias != nullptr, "gemm", "the epilogue needs a bias");
  require(!slope || operands.pre != nullptr, "gemm", "GeluGrad needs what was activated");
  require(shape.epilogue != Epilogue::BiasResidual || operands.addend != nullptr, "gemm",
          "BiasResidual needs an addend");
  require(operands.c != operands.a && operands.c != operands.b && operands.c != operands.addend &&
              operands.c != operands.pre,
          "gemm", "c cannot be another operand");
}

}  // namespace

void gemm(const Queue& queue, const Gemm& shape, const GemmOperands& operands) {
  if (shape.m == 0 || shape.n == 0) return;
  check(shape, operands);
  if (on_cuda(queue, "gemm", &CudaFamilies::gemm, shape, operands)) return;
  on_cpu(queue, "gemm", [&](auto zero) { cpu::gemm<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
