// The same mathematics out of route, gemm, combine and residual_mix; a product a route.

#include "kernels/few_experts.h"

#include <vector>

#include "kernels/combine.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/residual_mix.h"
#include "kernels/route.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
const T* at(const void* data, std::int64_t element) {
  return static_cast<const T*>(data) + element;
}
template <class T>
T* at(void* data, std::int64_t element) {
  return static_cast<T*>(data) + element;
}

}  // namespace

template <class T>
void few_experts_up(const FewExpertsUp& s, const FewExpertsUpOperands& o) {
  std::vector<T> probs(static_cast<std::size_t>(s.tokens * s.experts));
  route<T>({.tokens = s.tokens, .experts = s.experts, .k = s.k}, {.logits = o.logits,
                                                                  .used = o.used,
                                                                  .probs = probs.data(),
                                                                  .expert = o.expert,
                                                                  .weight = o.weight,
                                                                  .stats = o.stats});
  const Gemm product{
      .m = 1, .n = s.ffn, .k = s.hidden, .transpose_b = true, .epilogue = Epilogue::BiasGelu};
  for (std::int64_t r = 0; r < s.tokens * s.k; ++r) {
    const std::int64_t e = o.expert[r];
    if (e < 0) continue;
    gemm<T>(product, {.a = at<T>(o.n, r / s.k * s.hidden),
                      .b = at<T>(o.up, e * s.ffn * s.hidden),
                      .bias = at<T>(o.up_bias, e * s.ffn),
                      .c = at<T>(o.hidden, r * s.ffn)});
  }
}
template void few_experts_up<float>(const FewExpertsUp&, const FewExpertsUpOperands&);
template void few_experts_up<double>(const FewExpertsUp&, const FewExpertsUpOperands&);

template <class T>
void few_experts_down(const FewExpertsDown& s, const FewExpertsDownOperands& o) {
  const std::int64_t routes = s.tokens * s.k, size = s.tokens * s.hidden;
  std::vector<T> rows(static_cast<std::size_t>(routes * s.hidden));
  std::vector<T> moe(static_cast<std::size_t>(size)), mlp(static_cast<std::size_t>(size));
  std::vector<std::int32_t> position(static_cast<std::size_t>(routes));
  Gemm product{.m = 1, .n = s.hidden, .k = s.ffn, .transpose_b = true, .epilogue = Epilogue::Bias};
  for (std::int64_t r = 0; r < routes; ++r) {
    const std::int64_t e = o.expert[r];
    position[r] = e < 0 ? -1 : static_cast<std::int32_t>(r);
    if (e < 0) continue;
    gemm<T>(product, {.a = at<T>(o.expert_hidden, r * s.ffn),
                      .b = at<T>(o.down, e * s.hidden * s.ffn),
                      .bias = at<T>(o.down_bias, e * s.hidden),
                      .c = rows.data() + r * s.hidden});
  }
  const Combine combined{.tokens = s.tokens, .k = s.k, .copies = 1, .hidden = s.hidden};
  void* sum = s.residual ? moe.data() : o.y;
  combine<T>(combined,
             {.rows = rows.data(), .position = position.data(), .weight = o.weight, .y = sum});
  if (!s.residual) return add<T>({size}, {.x = o.x, .y = o.y});
  product.m = s.tokens;
  gemm<T>(product, {.a = o.mlp_hidden, .b = o.mlp_down, .bias = o.mlp_bias, .c = mlp.data()});
  residual_mix<T>(
      {s.tokens, s.hidden},
      {.x = o.x, .moe = moe.data(), .mlp = mlp.data(), .logits = o.coefficients, .y = o.y});
}
template void few_experts_down<float>(const FewExpertsDown&, const FewExpertsDownOperands&);
template void few_experts_down<double>(const FewExpertsDown&, const FewExpertsDownOperands&);

}  // namespace imhotep::kernels::cpu
