#include "kernels/dispatch.h"

#include <limits>

#include "core/base/fail.h"
#include "kernels/route.h"
#include "kernels/select.h"

namespace imhotep::kernels {
namespace {

void check_range(const char* family, const std::int32_t* range, std::int64_t bound) {
  if (range[0] < 0 || range[1] < range[0]) {
    fail("{}: expected a range of rows, got [{}, {})", family, range[0], range[1]);
  }
  if (range[1] - range[0] > bound) {
    fail("{}: {} rows exceed the bound of {}", family, range[1] - range[0], bound);
  }
}

}  // namespace

void pack_order(const Queue& queue, const PackOrder& shape, const PackOrderOperands& operands) {
  const auto divides = [](std::int64_t a, std::int64_t b) { return a >= 1 && b % a == 0; };
  if (shape.experts < 1 || shape.experts > kMaxExperts) {
    fail("pack_order: expected 1 to {} experts, got {}", kMaxExperts, shape.experts);
  }
  if (!divides(shape.expert_degree, shape.experts) || !divides(shape.lanes, shape.expert_degree)) {
    fail("pack_order: expected lanes | expert degree | experts, got {}, {}, {}", shape.lanes,
         shape.expert_degree, shape.experts);
  }
  require(0 <= shape.lane && shape.lane < shape.lanes, "pack_order", "lane outside [0, lanes)");
  require(0 <= shape.token_begin && shape.token_begin <= shape.token_end &&
              shape.token_end <= shape.tokens,
          "pack_order", "token range outside [0, tokens]");
  require(shape.lanes == 1 || (shape.token_begin == 0 && shape.token_end == shape.tokens),
          "pack_order", "lanes hold the same tokens, so the range must be all of them");
  require(shape.k >= 1 && shape.copies >= 1, "pack_order", "k and copies must be positive");
  require(shape.tokens * shape.k * shape.copies <= std::numeric_limits<std::int32_t>::max(),
          "pack_order", "more rows than 32-bit tables can number");
  if (on_cuda(queue, "pack_order", &CudaFamilies::pack_order, shape, operands)) return;
  cpu::pack_order(shape, operands);
}

void receive_order(const Queue& queue, const ReceiveOrder& shape,
                   const ReceiveOrderOperands& operands) {
  if (shape.local_experts < 1 || shape.local_experts > kMaxExperts) {
    fail("receive_order: expected 1 to {} local experts, got {}", kMaxExperts, shape.local_experts);
  }
  if (on_cuda(queue, "receive_order", &CudaFamilies::receive_order, shape, operands)) return;
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < shape.sources * shape.local_experts; ++i)
    total += operands.counts[i];
  if (total > shape.rows.bound) {
    fail("receive_order: {} rows arrived, the plan's receive bound is {}", total, shape.rows.bound);
  }
  cpu::receive_order(shape, operands);
}

void gather_rows(const Queue& queue, const GatherRows& shape, const GatherRowsOperands& operands) {
  if (on_cuda(queue, "gather_rows", &CudaFamilies::gather_rows, shape, operands)) return;
  check_range("gather_rows", operands.range, shape.rows.bound);
  on_cpu(queue, "gather_rows",
         [&](auto zero) { cpu::gather_rows<decltype(zero)>(shape, operands); });
}

void scatter_sum(const Queue& queue, const ScatterSum& shape, const ScatterSumOperands& operands) {
  require(shape.k >= 1 && shape.copies >= 1, "scatter_sum", "k and copies must be positive");
  if (on_cuda(queue, "scatter_sum", &CudaFamilies::scatter_sum, shape, operands)) return;
  on_cpu(queue, "scatter_sum",
         [&](auto zero) { cpu::scatter_sum<decltype(zero)>(shape, operands); });
}

}  // namespace imhotep::kernels
