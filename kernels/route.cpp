#include "kernels/route.h"

#include "core/base/fail.h"
#include "kernels/select.h"

namespace imhotep::kernels {
namespace {

void check_sizes(const char* family, std::int64_t experts, std::int64_t k) {
  if (experts < 1 || experts > kMaxExperts) {
    fail("{}: expected 1 to {} experts, got {}", family, kMaxExperts, experts);
  }
  if (k < 1 || k > experts)
    fail("{}: expected 1 <= k <= {} experts, got k = {}", family, experts, k);
}

template <class W>
double balance_sum(const W* stats, std::int64_t experts) {
  double sum = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    sum += static_cast<double>(stats[e]) * static_cast<double>(stats[experts + e]);
  }
  return sum;
}

}  // namespace

void route(const Queue& queue, const Route& shape, const RouteOperands& operands) {
  check_sizes("route", shape.experts, shape.k);
  if (shape.policy == DropPolicy::Random && shape.k != 1) {
    fail("route: random token selection is defined for k = 1, got k = {}", shape.k);
  }
  require(operands.noise == nullptr || shape.k <= 2, "route", "noise is defined for k = 1 and 2");
  if (shape.capacity < 0) fail("route: expected capacity >= 0, got {}", shape.capacity);
  if (on_cuda(queue, "route", &CudaFamilies::route, shape, operands)) return;
  on_cpu(queue, "route", [&](auto zero) { cpu::route<decltype(zero)>(shape, operands); });
}

void route_grad(const Queue& queue, const RouteGrad& shape, const RouteGradOperands& operands) {
  check_sizes("route_grad", shape.experts, shape.k);
  require(shape.aux_scale == 0 || shape.tokens_counted > 0, "route_grad",
          "the balance loss needs a positive number of global tokens");
  if (on_cuda(queue, "route_grad", &CudaFamilies::route_grad, shape, operands)) return;
  on_cpu(queue, "route_grad", [&](auto zero) { cpu::route_grad<decltype(zero)>(shape, operands); });
}

double balance_loss(Dtype wide, const void* stats, std::int64_t experts, std::int64_t k,
                    double tokens_global) {
  if (tokens_global <= 0) fail("balance_loss: expected tokens > 0, got {}", tokens_global);
  const double sum = wide_dtype(wide) == Dtype::F64
                         ? balance_sum(static_cast<const double*>(stats), experts)
                         : balance_sum(static_cast<const float*>(stats), experts);
  const double choices = k > 2 ? static_cast<double>(k) : 1.0;
  return static_cast<double>(experts) / choices * sum / (tokens_global * tokens_global);
}

}  // namespace imhotep::kernels
