#include "simulator/styles/restyle.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/base/capacity.h"
#include "core/layout/groups.h"

namespace imhotep::simulator {
namespace {

using program::Operation;
using program::Shape;

// Passes over a mask that no product makes, in bf16 sums (three elements of two bytes each): making
// it, one a route; as a truth value; as bf16 for either product; and its gradients.
constexpr double kMaskMade = 1.0, kMaskJoined = 2.0, kMaskCast = 0.5, kMaskGrad = 3.0;
// Passes over scores that lie in memory: softmax, mask and dropout, in sums.
constexpr double kScorePasses = 2.0;

std::int64_t whole(double count) { return static_cast<std::int64_t>(std::llround(count)); }

Shape sum_over(double elements) { return Add{std::max<std::int64_t>(whole(elements), 1)}; }

Rows exactly(double rows) { return {.bound = whole(rows), .expected = rows}; }

Shape moved(double rows, std::int64_t hidden) {
  return GatherRows{.rows = exactly(rows), .hidden = hidden};
}

// Elements of the result that an epilogue touches once more where it is not fused.
double unfused(const Gemm& s) {
  const bool more = s.epilogue == Epilogue::BiasGelu || s.epilogue == Epilogue::BiasResidual ||
                    s.epilogue == Epilogue::GeluGrad;
  return more ? static_cast<double>(s.m) * static_cast<double>(s.n) : 0;
}

struct DenseParts {
  const StyleTraits& traits;

  std::vector<StyledPart> operator()(const Gemm& s) const {
    std::vector<StyledPart> parts{{s}};
    if (traits.eager && unfused(s) > 0) parts.push_back({sum_over(unfused(s))});
    return parts;
  }
  std::vector<StyledPart> operator()(const Attention& s) const {
    return with_scores(s, static_cast<double>(s.batch * s.heads * s.sequence * s.sequence));
  }
  std::vector<StyledPart> operator()(const AttentionGrad& s) const {
    return with_scores(s, static_cast<double>(s.batch * s.heads * s.sequence * s.sequence));
  }
  // Joining a key to the cache copies the cache: read and written, keys and values.
  std::vector<StyledPart> operator()(const AttentionCached& s) const {
    std::vector<StyledPart> parts{{s}};
    const double cached = static_cast<double>(s.rows * s.heads * s.head_dim) * s.context;
    if (traits.plain_attention) parts.push_back({sum_over(4.0 / 3 * cached)});
    return parts;
  }
  template <class T>
  std::vector<StyledPart> operator()(const T& s) const {
    return {{s}};
  }

  std::vector<StyledPart> with_scores(const Shape& shape, double scores) const {
    std::vector<StyledPart> parts{{shape}};
    if (traits.plain_attention) parts.push_back({sum_over(scores), kScorePasses});
    return parts;
  }
};

bool is_expert_product(const Operation& operation) {
  return std::holds_alternative<GroupedGemm>(operation.shape);
}

template <class... Families>
bool is_any_of(const Shape& shape) {
  return (std::holds_alternative<Families>(shape) || ...);
}

// Operations of a routed layer, by the names of the listing (core/program/moe.cpp).
bool gathers_shares(std::string_view name) {
  return name == "combine_gather" || name == "share_gather" || name == "share_grad_gather" ||
         name == "dispatch_grad_gather" || name == "weight_grad_gather";
}
bool orders_rows(std::string_view name) {
  return name == "pack" || name == "receive_order" || name == "dispatch_counts";
}
bool is_routed(const Operation& operation) {
  return is_any_of<Route, RouteGrad, PackOrder, ReceiveOrder, GatherRows, Combine, CombineGrad,
                   ScatterSum, GroupedGemm, GroupedColumnSum, ExchangeRows, ExchangeCounts,
                   AllGatherRows>(operation.shape) ||
         gathers_shares(operation.name);
}
bool groups_rows(std::string_view name) { return name == "group_rows" || name == "ungroup_rows"; }

}  // namespace

Restyler::Restyler(const program::Program& program, const Plan& plan)
    : program_(program), plan_(plan), traits_(traits_of(plan.style)) {}

const Restyler::Slots& Restyler::slots_of(int layer) {
  const auto known = slots_.find(layer);
  if (known != slots_.end()) return known->second;
  const MoeLayerPlan& moe = *plan_.moe(layer);
  const ExchangePlace place = exchange_place(plan_, moe, Rank(0));
  const RouterSpec& router = plan_.model.router;
  const auto shares = static_cast<std::int64_t>(traits_.duplicates ? 1 : place.shares);
  const std::int64_t tokens = (program_.rows + shares - 1) / shares;
  const std::int64_t sequence = plan_.workload.sequence;
  const bool split = traits_.by_sequence && program_.phase == program::Phase::TrainStep;
  const std::int64_t groups = split ? std::max<std::int64_t>(tokens / sequence, 1) : 1;
  const int held = moe.experts / moe.expert;
  Slots slots{.tokens = static_cast<double>(tokens) / static_cast<double>(groups),
              .experts = static_cast<double>(moe.experts),
              .groups = static_cast<double>(groups),
              .local = static_cast<double>(held)};
  slots.capacity =
      static_cast<double>(route_capacity(tokens / groups, moe.experts, plan_.model.top_k,
                                         router.capacity_factor, router.min_capacity));
  const double lanes = traits_.duplicates ? 1 : place.lanes;
  slots.sent = slots.groups * slots.experts * slots.capacity * place.copies / lanes;
  const double sources =
      static_cast<double>(place.group.size()) * (traits_.duplicates ? place.lanes : 1);
  slots.rows = slots.groups * slots.capacity * sources;
  return slots_.emplace(layer, slots).first->second;
}

double Restyler::calls_of(const Operation& operation) const {
  const HostCalls& calls = traits_.calls;
  const std::string_view name = operation.name;
  if (name == "gate") return calls.gate;
  if (name == "head") return calls.head;
  return std::visit(
      [&]<class T>(const T&) -> double {
        if constexpr (std::is_same_v<T, LayerNorm> || std::is_same_v<T, LayerNormGrad>) {
          return calls.norm;
        } else if constexpr (std::is_same_v<T, Gemm>) {
          return calls.product;
        } else if constexpr (std::is_same_v<T, Attention> || std::is_same_v<T, AttentionGrad>) {
          return calls.attention;
        } else if constexpr (std::is_same_v<T, AttentionCached>) {
          return calls.cached_attention;
        } else if constexpr (std::is_same_v<T, Route> || std::is_same_v<T, RouteGrad>) {
          return calls.route;
        } else if constexpr (std::is_same_v<T, GatherRows>) {
          return groups_rows(name) ? calls.around_experts : calls.dispatch;
        } else if constexpr (std::is_same_v<T, ScatterSum>) {
          return calls.dispatch;
        } else if constexpr (std::is_same_v<T, ExchangeRows>) {
          return calls.exchange;
        } else if constexpr (std::is_same_v<T, Combine> || std::is_same_v<T, CombineGrad>) {
          return calls.combine;
        } else {
          return calls.other;
        }
      },
      operation.shape);
}

// The products of the experts held here, over slots or over rows as they fall. A batched product
// is the library's, like one an expert, and differs in the calls.
std::vector<StyledPart> Restyler::experts(const GroupedGemm& shape, const Slots& s) const {
  const double rows = traits_.slots ? s.rows * s.local : shape.rows.expected;
  if (traits_.experts == ExpertsAs::Grouped) {
    GroupedGemm all = shape;
    if (traits_.slots) {
      all.rows = exactly(rows);
      all.active = s.local;
      all.busiest = 1 / s.local;
    }
    return {{all}};
  }
  const double busy = traits_.slots ? s.local : std::max(shape.active, 1.0);
  const std::int64_t m = std::max<std::int64_t>(whole(rows / busy), 1);
  Gemm one{.m = m, .n = shape.n, .k = shape.k, .transpose_b = true, .epilogue = shape.epilogue};
  if (shape.mode == GroupedMode::GradInput) {
    one = {.m = m, .n = shape.k, .k = shape.n, .epilogue = shape.epilogue};
  } else if (shape.mode == GroupedMode::GradWeight) {
    one = {.m = shape.n, .n = shape.k, .k = m, .transpose_a = true};
  }
  std::vector<StyledPart> parts{{one, busy}};
  if (unfused(one) > 0) parts.push_back({sum_over(unfused(one)), busy});
  return parts;
}

std::vector<StyledPart> Restyler::routed(const Operation& operation, const Shape& loaded) {
  const std::string_view name = operation.name;
  const Slots& s = slots_of(operation.layer);
  const std::int64_t h = plan_.model.hidden;
  if (traits_.duplicates && gathers_shares(name)) return {};
  if (traits_.slots && orders_rows(name)) return {};
  if (const auto* products = std::get_if<GroupedGemm>(&loaded)) return experts(*products, s);
  if (!traits_.slots) return {{loaded}};
  const std::int64_t tokens = whole(s.tokens), slots = whole(s.experts * s.capacity);
  if (const auto* exchange = std::get_if<ExchangeRows>(&loaded)) {
    ExchangeRows padded = *exchange;
    padded.send = padded.receive = exactly(s.sent);
    StyledPart part{padded};
    const bool one_level = padded.algorithm == ExchangeAlgorithm::Flat ||
                           padded.algorithm == ExchangeAlgorithm::Coordinated;
    if (traits_.chooses_two_level && one_level) {
      padded.algorithm = ExchangeAlgorithm::Hierarchical;
      part.or_else = padded;
    }
    return {part};
  }
  if (const auto* sums = std::get_if<GroupedColumnSum>(&loaded)) {
    return {{GroupedColumnSum{exactly(s.rows * s.local), sums->experts, sums->cols}}};
  }
  if (groups_rows(name)) return {{moved(s.rows * s.local, h)}};
  if (!traits_.einsum) {
    if (name == "pack_rows") return {{moved(s.sent, h)}};
    return {{loaded}};
  }
  const double joined = plan_.model.top_k > 1 ? kMaskJoined : 0;
  const auto made = kMaskMade * plan_.model.top_k + joined + kMaskCast;
  const Gemm into{.m = slots, .n = h, .k = tokens, .transpose_a = true};
  const Gemm back{.m = tokens, .n = h, .k = slots};
  if (name == "route") return {{loaded}, {sum_over(s.mask()), made}};
  if (name == "route_grad") return {{loaded}, {sum_over(s.mask()), kMaskGrad}};
  if (name == "pack_rows") return {{into, s.groups}, {sum_over(s.mask()), kMaskCast}};
  if (name == "combine_rows") return {{back, s.groups}, {sum_over(s.mask()), 2 * kMaskCast}};
  if (name == "combine_grad") {
    const Gemm masks{.m = tokens, .n = slots, .k = h, .transpose_b = true};
    return {{masks, s.groups}, {into, s.groups}};
  }
  if (name == "dispatch_rows_grad") return {{back, s.groups}};
  return {{loaded}};
}

StyledOperation Restyler::at(const Operation& operation, const Shape& loaded) {
  StyledOperation out;
  const bool moe = operation.layer >= 0 && plan_.moe(operation.layer) != nullptr;
  out.parts = moe && is_routed(operation) ? routed(operation, loaded)
                                          : std::visit(DenseParts{traits_}, loaded);
  if (!traits_.eager || out.parts.empty()) return out;
  out.calls = calls_of(operation);
  if (is_expert_product(operation)) {
    const bool each = traits_.experts == ExpertsAs::Each;
    out.calls = traits_.calls.expert * (each ? out.parts.front().times : 1);
  }
  out.waits = traits_.waits_in_gate && std::holds_alternative<Route>(operation.shape);
  return out;
}

std::int64_t style_bytes(const Plan& plan) {
  if (plan.style == ExecutionStyle::Imhotep) return 0;
  const StyleTraits& traits = traits_of(plan.style);
  const bool trains = plan.workload.kind == WorkloadKind::Training;
  double masks = 0;
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    if (!traits.einsum) break;
    const RouterSpec& router = plan.model.router;
    const std::int64_t all =
        trains ? plan.micro_batch * plan.workload.sequence : plan.sequences_per_rank();
    const std::int64_t tokens = trains && traits.by_sequence ? plan.workload.sequence : all;
    const double capacity = static_cast<double>(route_capacity(
        tokens, moe.experts, plan.model.top_k, router.capacity_factor, router.min_capacity));
    const double elements = static_cast<double>(all) * moe.experts * capacity;
    // Without a backward pass, or where it computes them again, masks of one layer live at a time.
    if (trains && !plan.recomputes(moe.layer)) {
      masks += kMaskBytes * elements;
    } else {
      masks = std::max(masks, kMaskBytes * elements);
    }
  }
  return static_cast<std::int64_t>(masks + kContextBytes);
}

}  // namespace imhotep::simulator
