#include "planner/space/space.h"

#include <algorithm>
#include <limits>

#include "core/base/fail.h"
#include "core/layout/groups.h"
#include "planner/space/receive_rows.h"

namespace imhotep::planner {
namespace {

std::vector<std::int64_t> divisors(std::int64_t of) {
  std::vector<std::int64_t> small, large;
  for (std::int64_t d = 1; d * d <= of; ++d) {
    if (of % d != 0) continue;
    small.push_back(d);
    if (d * d != of) large.push_back(of / d);
  }
  small.insert(small.end(), large.rbegin(), large.rend());
  return small;
}

int fixed_at(const std::vector<int>& values, std::size_t index) {
  return values.empty() ? 0 : values[index];
}

bool allows(int fixed, std::int64_t value) { return fixed == 0 || fixed == value; }

bool training(const Request& request) { return request.workload.kind == WorkloadKind::Training; }

void refuse_training_degrees(const FixedDegrees& fixed) {
  if (fixed.zero || fixed.micro_batch || fixed.accumulation || fixed.recompute) {
    fail_input("fixed degrees: zero, micro_batch, accumulation and recompute are for training");
  }
}

}  // namespace

std::string count_text(Count count) {
  std::string digits;
  do {
    digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(count % 10)));
    count /= 10;
  } while (count > 0);
  return digits;
}

Space::Space(Request request) : request_(std::move(request)) {
  check(request_.model);
  if (request_.worlds.empty()) request_.worlds = default_worlds(request_.cluster);
  find_kinds();
  if (kinds_.size() > kMostKinds) {
    fail_input("fixed degrees: {} different layers, at most {} can be told apart", kinds_.size(),
               kMostKinds);
  }
  const FixedDegrees& fixed = request_.fixed;
  if (!training(request_)) {
    refuse_training_degrees(fixed);
    variants_ = {{}};
  } else {
    if (request_.kv.any()) fail_input("a KV budget is for generation; training keeps no KV cache");
    for (const Recompute recompute : {Recompute::None, Recompute::Full}) {
      for (const int zero : {0, 1}) {
        if (fixed.recompute.value_or(recompute) != recompute) continue;
        if (fixed.zero.value_or(zero) == zero) variants_.push_back({recompute, zero});
      }
    }
  }
  for (const int world : request_.worlds) add_world(world);
  if (size() == 0) fail_empty();
  const Verdict verdict = check_degrees(plan({}));
  if (!verdict.feasible) fail_input("{}", fmt::join(verdict.reasons, "; "));
}

void Space::find_kinds() {
  const FixedDegrees& fixed = request_.fixed;
  std::size_t index = 0;
  for (int layer = 0; layer < request_.model.layers; ++layer) {
    const int experts = request_.model.experts_at(layer);
    if (experts == 0) continue;
    const LayerKind own{.experts = experts,
                        .layers = {layer},
                        .expert = fixed_at(fixed.expert, index),
                        .slicing = fixed_at(fixed.slicing, index),
                        .replica = fixed_at(fixed.replica, index)};
    ++index;
    const auto same = std::find_if(kinds_.begin(), kinds_.end(), [&](const LayerKind& kind) {
      return kind.experts == experts && kind.expert == own.expert && kind.slicing == own.slicing &&
             kind.replica == own.replica;
    });
    if (same == kinds_.end()) {
      kinds_.push_back(own);
    } else {
      same->layers.push_back(layer);
    }
  }
}

Plan Space::frame_plan(int world, int tensor, RankOrder order) const {
  Plan plan;
  plan.model = request_.model;
  plan.workload = request_.workload;
  plan.cluster = request_.cluster.name;
  plan.device = request_.cluster.device.kind;
  plan.prefill_chunk = usual_prefill_chunk(plan.device);
  plan.dtype = request_.dtype;
  plan.style = request_.style;
  plan.executable = plan.style == ExecutionStyle::Imhotep &&
                    !(plan.device == DeviceKind::Cpu && plan.dtype == Dtype::Bf16);
  plan.world = world;
  plan.tensor = tensor;
  plan.data = world / tensor;
  plan.ranks_per_node = ranks_per_node(request_.cluster, world);
  plan.rank_order = order;
  // The smallest that will do; the search widens it in the end.
  const std::int64_t needed = plan.needed_pages() * plan.page_size;
  const auto& budgets = request_.kv.tokens;
  const auto enough = std::lower_bound(budgets.begin(), budgets.end(), needed);
  if (enough != budgets.end()) plan.kv_tokens = *enough;
  return plan;
}

// On one node every placement costs the same.
std::vector<RankOrder> Space::rank_orders(int world) const {
  if (request_.fixed.rank_order) return {*request_.fixed.rank_order};
  if (kinds_.empty() || ranks_per_node(request_.cluster, world) >= world) {
    return {RankOrder::Consecutive};
  }
  return {RankOrder::Consecutive, RankOrder::Strided};
}

void Space::add_world(int world) {
  const ModelSpec& model = request_.model;
  for (const std::int64_t tensor : divisors(world)) {
    if (model.heads % tensor != 0 || model.padded_vocab() % tensor != 0 ||
        model.ffn() % tensor != 0) {
      continue;
    }
    if (request_.fixed.tensor.value_or(static_cast<int>(tensor)) != tensor) continue;
    for (const RankOrder order : rank_orders(world)) {
      const Plan plan = frame_plan(world, static_cast<int>(tensor), order);
      if (request_.fixed.data.value_or(plan.data) != plan.data) continue;
      std::vector<std::vector<LayerChoice>> choices;
      bool possible = true;
      for (const LayerKind& kind : kinds_) {
        choices.push_back(layer_choices(plan, kind));
        possible = possible && !choices.back().empty();
      }
      if (possible) add_frames(plan, choices);
    }
  }
}

std::vector<LayerChoice> Space::layer_choices(const Plan& degrees, const LayerKind& kind) const {
  std::vector<LayerChoice> choices;
  for (const std::int64_t expert : divisors(degrees.world)) {
    if (kind.experts % expert != 0 || !allows(kind.expert, expert)) continue;
    for (const std::int64_t slicing : divisors(degrees.world / expert)) {
      const std::int64_t replica = degrees.world / expert / slicing;
      if (degrees.model.ffn() % slicing != 0 || !allows(kind.slicing, slicing)) continue;
      if (!allows(kind.replica, replica)) continue;
      MoeLayerPlan moe{.layer = kind.layers.front(),
                       .experts = kind.experts,
                       .expert = static_cast<int>(expert),
                       .slicing = static_cast<int>(slicing),
                       .replica = static_cast<int>(replica)};
      for (const auto exchange : {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Hierarchical,
                                  ExchangeAlgorithm::Coordinated, ExchangeAlgorithm::AllGather}) {
        if (request_.fixed.exchange.value_or(exchange) != exchange) continue;
        moe.exchange = exchange;
        if (!exchange_problem(degrees, moe).empty()) continue;
        choices.push_back({moe.expert, moe.slicing, moe.replica, exchange, 0});
      }
    }
  }
  return choices;
}

void Space::add_frames(const Plan& degrees, const std::vector<std::vector<LayerChoice>>& choices) {
  Plan plan = degrees;
  if (!request_.kv.tokens.empty() && plan.kv_tokens == 0) return;  // its batch does not fit in any
  std::vector<std::int64_t> splits = {1};
  if (training(request_)) {
    if (plan.workload.global_batch % plan.data != 0) return;
    splits = divisors(plan.workload.global_batch / plan.data);
  }
  for (const std::int64_t micro_batch : splits) {
    plan.micro_batch = micro_batch;
    plan.accumulation = splits.back() / micro_batch;
    if (request_.fixed.micro_batch.value_or(micro_batch) != micro_batch) continue;
    if (request_.fixed.accumulation.value_or(plan.accumulation) != plan.accumulation) continue;
    Frame frame{.world = plan.world,
                .tensor = plan.tensor,
                .data = plan.data,
                .rank_order = plan.rank_order,
                .micro_batch = micro_batch,
                .accumulation = plan.accumulation,
                .choices = choices};
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      for (LayerChoice& choice : frame.choices[k]) {
        const MoeLayerPlan moe{.layer = kinds_[k].layers.front(),
                               .experts = kinds_[k].experts,
                               .expert = choice.expert,
                               .slicing = choice.slicing,
                               .replica = choice.replica,
                               .exchange = choice.exchange};
        choice.receive_rows = receive_rows_bound(plan, moe);
      }
      if (__builtin_mul_overflow(frame.combinations, frame.choices[k].size(),
                                 &frame.combinations)) {
        fail_input("{} kinds of MoE layers have more plans than can be counted; fix some degrees",
                   kinds_.size());
      }
    }
    frames_.push_back(std::move(frame));
  }
}

Count Space::size() const {
  Count total = 0;
  for (const Frame& frame : frames_) {
    Count alone = 1;  // combinations without a decisive choice
    for (const auto& choices : frame.choices) {
      alone *= static_cast<Count>(std::count_if(
          choices.begin(), choices.end(), [&](auto& choice) { return !decisive(frame, choice); }));
    }
    for (const Variant& variant : variants_) {
      total += frame.combinations;
      if (!legal_always(frame, variant)) total -= alone;
    }
  }
  return total;
}

const LayerChoice& Space::choice(const Candidate& candidate, std::size_t kind) const {
  const auto& choices = frames_[candidate.frame].choices;
  std::uint64_t rest = candidate.combination;
  for (std::size_t k = 0; k < kind; ++k) rest /= choices[k].size();
  return choices[kind][rest % choices[kind].size()];
}

bool Space::legal(const Candidate& candidate) const {
  const Frame& frame = frames_[candidate.frame];
  if (legal_always(frame, candidate.variant)) return true;
  for (std::size_t k = 0; k < kinds_.size(); ++k) {
    if (decisive(frame, choice(candidate, k))) return true;
  }
  return false;
}

Plan Space::plan(const Candidate& candidate) const {
  const Frame& frame = frames_[candidate.frame];
  Plan plan = frame_plan(frame.world, frame.tensor, frame.rank_order);
  plan.micro_batch = frame.micro_batch;
  plan.accumulation = frame.accumulation;
  plan.recompute = candidate.variant.recompute;
  plan.zero = candidate.variant.zero;
  for (std::size_t k = 0; k < kinds_.size(); ++k) {
    const LayerChoice& degrees = choice(candidate, k);
    for (const int layer : kinds_[k].layers) {
      plan.moe_layers.push_back({.layer = layer,
                                 .experts = kinds_[k].experts,
                                 .expert = degrees.expert,
                                 .slicing = degrees.slicing,
                                 .replica = degrees.replica,
                                 .exchange = degrees.exchange,
                                 .receive_rows = degrees.receive_rows});
    }
  }
  std::sort(plan.moe_layers.begin(), plan.moe_layers.end(),
            [](const auto& a, const auto& b) { return a.layer < b.layer; });
  return plan;
}

Plan Space::plan(std::int32_t frame, int zero, const LayerChoices& layers) const {
  Plan plan = this->plan({.frame = frame, .variant = {.zero = zero}});
  for (MoeLayerPlan& moe : plan.moe_layers) {
    const LayerChoice& own = frames_[frame].choices[kind_of(moe.layer)][layers.choice[moe.layer]];
    moe.expert = own.expert;
    moe.slicing = own.slicing;
    moe.replica = own.replica;
    moe.exchange = own.exchange;
    moe.receive_rows = own.receive_rows;
  }
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    if (layers.recompute[layer]) plan.recompute_layers.push_back(layer);
  }
  const std::size_t again = plan.recompute_layers.size();
  plan.recompute = again == 0                                             ? Recompute::None
                   : again == static_cast<std::size_t>(plan.model.layers) ? Recompute::Full
                                                                          : Recompute::Some;
  if (plan.recompute != Recompute::Some) plan.recompute_layers.clear();
  return plan;
}

int Space::kind_of(int layer) const {
  for (std::size_t k = 0; k < kinds_.size(); ++k) {
    const std::vector<int>& layers = kinds_[k].layers;
    if (std::binary_search(layers.begin(), layers.end(), layer)) return static_cast<int>(k);
  }
  return -1;
}

// The degrees that were asked for, completed in the plainest way, say what is wrong with them.
void Space::fail_empty() const {
  const FixedDegrees& fixed = request_.fixed;
  const int world = request_.worlds.front();
  Plan plan = frame_plan(world, 1, fixed.rank_order.value_or(RankOrder::Consecutive));
  plan.tensor = fixed.tensor.value_or(fixed.data ? std::max(1, world / *fixed.data) : 1);
  plan.data = fixed.data.value_or(std::max(1, world / plan.tensor));
  if (training(request_)) {
    const std::int64_t share = std::max<std::int64_t>(1, plan.workload.global_batch / plan.data);
    plan.micro_batch = fixed.micro_batch.value_or(
        std::max<std::int64_t>(1, share / fixed.accumulation.value_or(share)));
    plan.accumulation =
        fixed.accumulation.value_or(std::max<std::int64_t>(1, share / plan.micro_batch));
  }
  for (const LayerKind& kind : kinds_) {
    MoeLayerPlan moe{.experts = kind.experts,
                     .expert = std::max(1, kind.expert),
                     .slicing = std::max(1, kind.slicing)};
    moe.replica = kind.replica > 0 ? kind.replica : std::max(1, world / moe.expert / moe.slicing);
    moe.exchange = fixed.exchange.value_or(ExchangeAlgorithm::Flat);
    for (const int layer : kind.layers) {
      moe.layer = layer;
      plan.moe_layers.push_back(moe);
    }
  }
  std::sort(plan.moe_layers.begin(), plan.moe_layers.end(),
            [](const auto& a, const auto& b) { return a.layer < b.layer; });
  if (!request_.kv.tokens.empty() && plan.kv_tokens == 0)
    plan.kv_tokens = request_.kv.tokens.back();
  std::vector<std::string> reasons = check_degrees(plan).reasons;
  if (reasons.size() > 3) reasons.resize(3);
  fail_input(
      "no plan of {} on {} ranks has these degrees: {}", request_.model.name, world,
      reasons.empty() ? "they contradict each other" : fmt::to_string(fmt::join(reasons, "; ")));
}

}  // namespace imhotep::planner
