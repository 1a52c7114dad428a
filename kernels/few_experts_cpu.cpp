// The same mathematics out of route, gemm, combine and residual_mix; a product a route.

#include "kernels/few_experts.h"

#include <algorithm>
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
  std::vector<T> others(static_cast<std::size_t>(2 * s.experts));  // statistics of no interest
  const std::int64_t own_end = std::min(s.own_end, s.tokens);
  const auto choose = [&](std::int64_t begin, std::int64_t end, void* stats) {
    if (begin >= end) return;
    route<T>({.tokens = end - begin, .experts = s.experts, .k = s.k},
             {.logits = at<T>(o.logits, begin * s.experts),
              .used = o.used == nullptr ? nullptr : o.used + begin,
              .probs = probs.data() + begin * s.experts,
              .expert = o.expert + begin * s.k,
              .weight = at<T>(o.weight, begin * s.k),
              .stats = stats});
  };
  choose(0, s.own_begin, others.data());
  choose(own_end, s.tokens, others.data());
  std::fill_n(at<T>(o.stats, 0), 2 * s.experts, T{0});
  choose(s.own_begin, own_end, o.stats);
  const Gemm product{
      .m = 1, .n = s.ffn, .k = s.hidden, .transpose_b = true, .epilogue = Epilogue::BiasGelu};
  for (std::int64_t r = 0; r < s.tokens * s.k; ++r) {
    const std::int64_t e = o.expert[r] - s.first_expert;
    const bool held = o.expert[r] >= 0 && e >= 0 && e < s.held();
    o.expert[r] = held ? static_cast<std::int32_t>(e) : -1;
    if (!held) continue;
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
  Gemm product{.m = 1,
               .n = s.hidden,
               .k = s.ffn,
               .transpose_b = true,
               .epilogue = o.down_bias == nullptr ? Epilogue::None : Epilogue::Bias};
  for (std::int64_t r = 0; r < routes; ++r) {
    const std::int64_t e = o.expert[r];
    position[r] = e < 0 ? -1 : static_cast<std::int32_t>(r);
    if (e < 0) continue;
    gemm<T>(product, {.a = at<T>(o.expert_hidden, r * s.ffn),
                      .b = at<T>(o.down, e * s.hidden * s.ffn),
                      .bias = o.down_bias == nullptr ? nullptr : at<T>(o.down_bias, e * s.hidden),
                      .c = rows.data() + r * s.hidden});
  }
  const Combine combined{.tokens = s.tokens, .k = s.k, .copies = 1, .hidden = s.hidden};
  combine<T>(combined, {.rows = rows.data(),
                        .position = position.data(),
                        .weight = o.weight,
                        .y = s.residual ? moe.data() : o.y});
  std::vector<T> x(at<T>(o.x, 0), at<T>(o.x, 0) + size);  // of the tokens that are added here
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    if (!s.owns(t)) std::fill_n(x.begin() + t * s.hidden, s.hidden, T{0});
  }
  if (!s.residual) return add<T>({size}, {.x = x.data(), .y = o.y});
  product.m = s.tokens;
  product.epilogue = o.mlp_bias == nullptr ? Epilogue::None : Epilogue::Bias;
  gemm<T>(product, {.a = o.mlp_hidden, .b = o.mlp_down, .bias = o.mlp_bias, .c = mlp.data()});
  for (std::int64_t t = 0; t < s.tokens && !s.sliced; ++t) {
    if (!s.owns(t)) std::fill_n(mlp.begin() + t * s.hidden, s.hidden, T{0});
  }
  residual_mix<T>(
      {s.tokens, s.hidden},
      {.x = x.data(), .moe = moe.data(), .mlp = mlp.data(), .logits = o.coefficients, .y = o.y});
}
template void few_experts_down<float>(const FewExpertsDown&, const FewExpertsDownOperands&);
template void few_experts_down<double>(const FewExpertsDown&, const FewExpertsDownOperands&);

}  // namespace imhotep::kernels::cpu
