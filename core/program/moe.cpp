// The routed experts of a block: gate, pack, exchange, experts, exchange back, combine; and the
// same way in reverse. Row tables and orders: kernels/dispatch.h; who sends what: groups.h.
//
// The gate runs on all tokens of the tensor group (its result is replicated); each rank then
// answers for its share of them (flat, hierarchical, all-gather) or for the experts of its lane
// (coordinated). The all-gather exchange differs in the dispatch alone: counts and rows arrive
// together. From then on counts are known, and rows move as in the flat exchange.

#include <cmath>

#include "core/base/capacity.h"
#include "core/base/fail.h"
#include "core/program/builder.h"

namespace imhotep::program {
namespace {

struct Sizes {
  std::int64_t experts, local, k, f, peers;
};

Sizes sizes_of(const Builder& b, const MoeLayerPlan& moe, const RoutedKept& kept) {
  return {.experts = moe.experts,
          .local = moe.experts / moe.expert,
          .k = b.model.top_k,
          .f = b.model.ffn() / moe.slicing,
          .peers = static_cast<std::int64_t>(kept.place.group.size())};
}

// Rows this rank sends and receives: bounds for the buffers, expectations for the price.
void size_rows(Builder& b, const MoeLayerPlan& moe, RoutedKept& kept, bool training) {
  const ExchangePlace& place = kept.place;
  const auto k = static_cast<std::int64_t>(b.model.top_k);
  const bool coordinated = place.lanes > 1;
  kept.tokens = coordinated ? TokenRange{0, b.T} : token_share(b.T, place.shares, place.share);
  kept.share_rows = coordinated ? b.T : (b.T + place.shares - 1) / place.shares;
  kept.pack_rows = kept.share_rows * k * place.copies;
  const RouterSpec& router = b.model.router;
  const bool drops = training && router.drop != DropPolicy::None;
  kept.capacity =
      drops ? route_capacity(b.T, moe.experts, k, router.capacity_factor, router.min_capacity) : 0;
  const std::int64_t local = moe.experts / moe.expert;
  std::int64_t from_one = kept.share_rows * k;
  if (drops) from_one = std::min(from_one, kept.capacity * local);
  // A rank that stays alone still receives its own rows; copies stay apart on their peers.
  const std::int64_t worst = from_one * static_cast<std::int64_t>(place.group.size());
  const bool alone = place.group.size() == 1 && !coordinated;  // no exchange, nothing unexpected
  kept.receive_rows = moe.receive_rows > 0 && !alone ? std::min(moe.receive_rows, worst) : worst;
  double expected = b.used * static_cast<double>(kept.pack_rows) / place.lanes;
  if (drops) {
    expected *= kept_part(static_cast<double>(b.T * k), 1.0 / moe.experts,
                          static_cast<double>(kept.capacity));
  }
  kept.sent = {.bound = kept.pack_rows, .expected = expected};
  kept.received = {.bound = kept.receive_rows, .expected = expected};
}

GroupedGemm grouped(const RoutedKept& kept, const Sizes& s, GroupedMode mode, std::int64_t n,
                    std::int64_t k, Epilogue epilogue = Epilogue::None) {
  const double rows = kept.received.expected, experts = static_cast<double>(s.local);
  const double active = experts * (1 - std::pow(1 - 1 / experts, rows));
  const double mean = rows / experts;
  const double busiest =
      rows > 0 ? std::min(1.0, (mean + std::sqrt(2 * mean * std::log(experts))) / rows) : 0;
  return {.mode = mode,
          .rows = kept.received,
          .experts = s.local,
          .n = n,
          .k = k,
          .active = s.local == 1 ? 1 : active,
          .busiest = s.local == 1 ? 1 : busiest,
          .epilogue = epilogue};
}

ExchangeRows exchange_shape(const Builder& b, const RoutedKept& kept, const MoeLayerPlan& moe,
                            bool reverse) {
  const bool gathers = moe.exchange == ExchangeAlgorithm::AllGather;
  return {.algorithm = gathers ? ExchangeAlgorithm::Flat : moe.exchange,
          .send = reverse ? kept.received : kept.sent,
          .receive = reverse ? kept.sent : kept.received,
          .hidden = b.h,
          .reverse = reverse};
}

// The middle of a hierarchical exchange holds what the peers of this node sent for other nodes.
Operand exchange_scratch(Builder& b, const RoutedKept& kept, const MoeLayerPlan& moe) {
  if (moe.exchange != ExchangeAlgorithm::Hierarchical) return {};
  const int node = b.rank.value / b.plan.ranks_per_node;
  const std::int64_t on_node = kept.place.group.on_node(node, b.plan.ranks_per_node);
  return b.buffer("exchange_scratch", kept.pack_rows * on_node * b.h, b.plan.dtype,
                  BufferKind::Exchange);
}

void receive_order(Builder& b, const Sizes& s, RoutedKept& kept) {
  kept.offsets = b.table("expert_offsets", s.local + 1);
  kept.index = b.table("receive_index", kept.receive_rows);
  kept.range = b.table("receive_range", 2);
  b.op("receive_order",
       ReceiveOrder{.sources = s.peers, .local_experts = s.local, .rows = kept.received},
       {kept.counts_in}, {kept.offsets, kept.index, kept.range});
}

Operand group_rows(Builder& b, const RoutedKept& kept, Operand received) {
  if (!kept.permuted) return received;
  const Operand rows = b.data("expert_rows", kept.receive_rows * b.h);
  b.op("group_rows", GatherRows{.rows = kept.received, .hidden = b.h},
       {received, kept.index, kept.range}, {rows});
  return rows;
}

// The dispatch of the all-gather exchange. Its scratch holds a message of every peer.
Operand gather_to_experts(Builder& b, const Sizes& s, RoutedKept& kept, Operand packed) {
  const std::int64_t rows = kept.share_rows * s.k, bytes = bytes_of(b.plan.dtype);
  const std::int64_t header = gather_header_bytes(s.experts);
  const double header_rows = static_cast<double>(header) / static_cast<double>(b.h * bytes);
  const double sent = kept.sent.expected / kept.place.copies + header_rows;
  const Operand received =
      b.buffer("received", kept.receive_rows * b.h, b.plan.dtype, BufferKind::Exchange);
  const Operand scratch = b.buffer("exchange_scratch", s.peers * (header / bytes + rows * b.h),
                                   b.plan.dtype, BufferKind::Exchange);
  b.exchange("dispatch",
             ExchangeRows{.algorithm = ExchangeAlgorithm::AllGather,
                          .send = {.bound = rows, .expected = sent},
                          .receive = kept.received,
                          .hidden = b.h},
             kept.place.group, {packed, kept.counts}, {received, scratch, kept.counts_in});
  receive_order(b, s, kept);
  return group_rows(b, kept, received);
}

// Rows in pack order -> rows grouped by local expert. Used for activations and for gradients.
Operand to_experts(Builder& b, const MoeLayerPlan& moe, const RoutedKept& kept, Operand packed,
                   const char* name) {
  if (!kept.exchanged) return packed;
  const Operand received =
      b.buffer("received", kept.receive_rows * b.h, b.plan.dtype, BufferKind::Exchange);
  b.exchange(name, exchange_shape(b, kept, moe, false), kept.place.group,
             {packed, kept.counts, kept.counts_in, kept.segments},
             {received, exchange_scratch(b, kept, moe)});
  return group_rows(b, kept, received);
}

// The way back: rows grouped by local expert -> rows in pack order at the rank that sent them.
Operand from_experts(Builder& b, const MoeLayerPlan& moe, const RoutedKept& kept, Operand rows,
                     const char* name, const char* gather_name) {
  if (!kept.exchanged) return rows;
  Operand back = rows;
  if (kept.permuted) {
    back = b.buffer("ungrouped", kept.receive_rows * b.h, b.plan.dtype, BufferKind::Exchange);
    b.op("ungroup_rows", GatherRows{.rows = kept.received, .hidden = b.h, .inverse = true},
         {rows, kept.index, kept.range}, {back});
  }
  const Operand home = b.data("returned", kept.pack_rows * b.h);
  b.exchange(name, exchange_shape(b, kept, moe, true), kept.place.group,
             {back, kept.counts, kept.counts_in, kept.segments},
             {home, exchange_scratch(b, kept, moe)});
  if (kept.place.lanes > 1) {
    b.communicate(gather_name,
                  AllGatherRows{.rows = {.bound = kept.pack_rows,
                                         .expected = kept.sent.expected * kept.place.lanes},
                                .hidden = b.h},
                  kept.place.share_group, {home, kept.segments}, {home});
  }
  return home;
}

// Results of this rank's share (partial where experts are sliced) -> all tokens, complete.
Operand share_results(Builder& b, const RoutedKept& kept, Operand share, const char* sum_name,
                      const char* gather_name, const char* out_name) {
  b.all_reduce(sum_name, share, kept.share_rows * b.h, kept.place.slice_group);
  if (kept.place.shares == 1) return share;
  const Operand all = b.data(out_name, kept.share_rows * kept.place.shares * b.h);
  b.communicate(gather_name, AllGather{kept.share_rows * b.h}, kept.place.share_group, {share},
                {all});
  return all;
}

void gate(Builder& b, const MoeLayerPlan& moe, Operand n, RoutedKept& kept, bool training) {
  const Sizes s = sizes_of(b, moe, kept);
  const Operand logits = b.wides("gate_logits", b.T * s.experts);
  b.op("gate",
       Gemm{.m = b.T, .n = s.experts, .k = b.h, .transpose_b = true, .wide = true, .wide_b = true},
       {n, b.weight(TensorRole::GateWeight)}, {logits});
  kept.probs = b.wides("gate_probs", b.T * s.experts);
  kept.expert = b.table("route_expert", b.T * s.k);
  kept.weight = b.wides("route_weight", b.T * s.k);
  const DropPolicy policy = training ? b.model.router.drop : DropPolicy::None;
  b.op("route",
       Route{.tokens = b.T,
             .experts = s.experts,
             .k = s.k,
             .policy = policy,
             .capacity = kept.capacity},
       {logits, b.input_named("used")}, {kept.probs, kept.expert, kept.weight, kept.stats});
}

void pack(Builder& b, const MoeLayerPlan& moe, RoutedKept& kept) {
  const Sizes s = sizes_of(b, moe, kept);
  const std::int64_t held = s.k * kept.place.copies;
  kept.order = b.table("pack_order", kept.pack_rows);
  kept.position = b.table("pack_position", b.T * held);
  kept.segments = b.table("pack_segments", kept.place.lanes + 1);
  kept.counts = b.table("send_counts", s.peers * s.local);
  b.op("pack",
       PackOrder{.tokens = b.T,
                 .experts = s.experts,
                 .k = s.k,
                 .token_begin = kept.tokens.begin,
                 .token_end = kept.tokens.end,
                 .expert_degree = moe.expert,
                 .lanes = kept.place.lanes,
                 .lane = kept.place.lane,
                 .copies = kept.place.copies},
       {kept.expert}, {kept.order, kept.position, kept.segments, kept.counts});
  kept.counts_in = kept.counts;
  if (kept.exchanged) {
    kept.counts_in = b.table("receive_counts", s.peers * s.local);
    if (kept.gathers) return;  // the dispatch brings them
    b.exchange("dispatch_counts",
               ExchangeCounts{.algorithm = moe.exchange, .local_experts = s.local},
               kept.place.group, {kept.counts}, {kept.counts_in});
  }
  receive_order(b, s, kept);
}

Operand packed_rows(Builder& b, const RoutedKept& kept, Operand n) {
  const Operand rows = b.data("packed", kept.pack_rows * b.h);
  b.op("pack_rows", GatherRows{.rows = kept.sent, .hidden = b.h},
       {n, kept.order, shifted(kept.segments, kept.place.lane)}, {rows});
  return rows;
}

}  // namespace

Operand routed_forward(Builder& b, Operand n, RoutedKept& kept, bool training, Operand stats) {
  const MoeLayerPlan& moe = *b.plan.moe(b.layer);
  kept.place = exchange_place(b.plan, moe, b.rank);
  kept.stats = stats;
  size_rows(b, moe, kept, training);
  const Sizes s = sizes_of(b, moe, kept);
  kept.exchanged = s.peers > 1 || kept.place.lanes > 1;
  kept.gathers = kept.exchanged && moe.exchange == ExchangeAlgorithm::AllGather;
  kept.permuted = kept.exchanged && s.local > 1 && s.peers > 1;
  gate(b, moe, n, kept, training);
  pack(b, moe, kept);
  const Operand packed = packed_rows(b, kept, n);
  kept.rows = kept.gathers ? gather_to_experts(b, s, kept, packed)
                           : to_experts(b, moe, kept, packed, "dispatch");
  kept.pre = b.data("expert_pre", kept.receive_rows * s.f);
  kept.hidden = b.data("expert_hidden", kept.receive_rows * s.f);
  b.op("experts_up", grouped(kept, s, GroupedMode::Forward, s.f, b.h, Epilogue::BiasGelu),
       {kept.rows, b.weight(TensorRole::ExpertUpWeight), kept.offsets,
        b.weight(TensorRole::ExpertUpBias)},
       {kept.hidden, kept.pre});
  const Operand out = b.data("expert_out", kept.receive_rows * b.h);
  const bool adds = expert_place(b.plan, moe, b.rank).slice == 0;
  b.op("experts_down",
       grouped(kept, s, GroupedMode::Forward, b.h, s.f, adds ? Epilogue::Bias : Epilogue::None),
       {kept.hidden, b.weight(TensorRole::ExpertDownWeight), kept.offsets,
        adds ? b.weight(TensorRole::ExpertDownBias) : Operand{}},
       {out});
  kept.returned = from_experts(b, moe, kept, out, "combine", "combine_gather");
  const Operand share = b.data("moe_share", kept.share_rows * b.h);
  const std::int64_t begin = kept.tokens.begin;
  b.op("combine_rows",
       Combine{
           .tokens = kept.tokens.end - begin, .k = s.k, .copies = kept.place.copies, .hidden = b.h},
       {kept.returned, shifted(kept.position, begin * s.k * kept.place.copies),
        shifted(kept.weight, begin * s.k)},
       {share});
  return share_results(b, kept, share, "slice_sum", "share_gather", "moe_out");
}

namespace {

// d_weight of every token on every rank of the tensor group.
Operand complete_weight_grad(Builder& b, const RoutedKept& kept, Operand share, std::int64_t k) {
  b.all_reduce("weight_grad_sum", share, kept.share_rows * k, kept.place.slice_group);
  if (kept.place.shares == 1) return share;
  const Operand all = b.wides("d_weight_all", kept.share_rows * kept.place.shares * k);
  b.communicate("weight_grad_gather", AllGather{kept.share_rows * k}, kept.place.share_group,
                {share}, {all});
  return all;
}

// d(expert output rows) -> d(expert input rows), and the gradients of the experts' weights.
Operand experts_backward(Builder& b, const MoeLayerPlan& moe, const RoutedKept& kept, Operand d) {
  const Sizes s = sizes_of(b, moe, kept);
  const std::int64_t h = b.h;
  b.op("experts_down_bias_grad", GroupedColumnSum{kept.received, s.local, h}, {d, kept.offsets},
       {b.gradient(TensorRole::ExpertDownBias)});
  GroupedGemm down = grouped(kept, s, GroupedMode::GradWeight, h, s.f);
  down.accumulate = b.accumulate;
  b.op("experts_down_weight_grad", down, {d, kept.hidden, kept.offsets},
       {b.gradient(TensorRole::ExpertDownWeight)});
  const Operand d_hidden = b.data("d_expert_hidden", kept.receive_rows * s.f);
  b.op("experts_down_input_grad",
       grouped(kept, s, GroupedMode::GradInput, h, s.f, Epilogue::GeluGrad),
       {d, b.weight(TensorRole::ExpertDownWeight), kept.offsets, {}, kept.pre}, {d_hidden});
  b.op("experts_up_bias_grad", GroupedColumnSum{kept.received, s.local, s.f},
       {d_hidden, kept.offsets}, {b.gradient(TensorRole::ExpertUpBias)});
  GroupedGemm up = grouped(kept, s, GroupedMode::GradWeight, s.f, h);
  up.accumulate = b.accumulate;
  b.op("experts_up_weight_grad", up, {d_hidden, kept.rows, kept.offsets},
       {b.gradient(TensorRole::ExpertUpWeight)});
  const Operand d_rows = b.data("d_expert_rows", kept.receive_rows * h);
  b.op("experts_up_input_grad", grouped(kept, s, GroupedMode::GradInput, s.f, h),
       {d_hidden, b.weight(TensorRole::ExpertUpWeight), kept.offsets}, {d_rows});
  return d_rows;
}

void gate_backward(Builder& b, const MoeLayerPlan& moe, Operand n, const RoutedKept& kept,
                   Operand d_weight, Operand dn) {
  const RouterSpec& router = b.model.router;
  const bool global = router.aux == AuxScope::Global;
  const double steps = static_cast<double>(b.plan.accumulation);
  const Operand d_logits = b.wides("d_gate_logits", b.T * moe.experts);
  b.op("route_grad",
       RouteGrad{.tokens = b.T,
                 .experts = moe.experts,
                 .k = b.model.top_k,
                 .aux_scale = router.aux_coefficient / steps / (global ? 1.0 : b.plan.data),
                 .tokens_counted = static_cast<double>(b.T) * (global ? b.plan.data : 1)},
       {kept.probs, kept.expert, kept.weight, d_weight, kept.stats}, {d_logits});
  b.op("gate_weight_grad",
       Gemm{.m = moe.experts,
            .n = b.h,
            .k = b.T,
            .transpose_a = true,
            .accumulate = b.accumulate,
            .wide = true,
            .wide_a = true},
       {d_logits, n}, {b.gradient(TensorRole::GateWeight)});
  b.op(
      "gate_input_grad",
      Gemm{
          .m = b.T, .n = b.h, .k = moe.experts, .accumulate = true, .wide_a = true, .wide_b = true},
      {d_logits, b.weight(TensorRole::GateWeight)}, {dn});
}

}  // namespace

// Adds the gradient of the normed input to dn.
void routed_backward(Builder& b, Operand dy, Operand n, const RoutedKept& kept, Operand dn) {
  const MoeLayerPlan& moe = *b.plan.moe(b.layer);
  const Sizes s = sizes_of(b, moe, kept);
  const std::int64_t begin = kept.tokens.begin, count = kept.tokens.end - begin;
  const std::int64_t held = s.k * kept.place.copies;
  const Operand d_packed = b.data("d_packed", kept.pack_rows * b.h);
  const Operand d_weight = b.wides("d_weight", kept.share_rows * s.k);
  b.op("combine_grad",
       CombineGrad{.tokens = count, .k = s.k, .copies = kept.place.copies, .hidden = b.h},
       {shifted(dy, begin * b.h), kept.returned, shifted(kept.position, begin * held),
        shifted(kept.weight, begin * s.k)},
       {d_packed, d_weight});
  const Operand d_weight_all = complete_weight_grad(b, kept, d_weight, s.k);
  const Operand d_out = to_experts(b, moe, kept, d_packed, "combine_grad_dispatch");
  const Operand d_rows = experts_backward(b, moe, kept, d_out);
  const Operand d_home =
      from_experts(b, moe, kept, d_rows, "dispatch_grad", "dispatch_grad_gather");
  const bool whole = kept.place.shares == 1 && kept.place.slice_group.size() <= 1;
  const Operand target = whole ? dn : b.data("dn_share", kept.share_rows * b.h);
  b.op("dispatch_rows_grad",
       ScatterSum{.tokens = count,
                  .k = s.k,
                  .copies = kept.place.copies,
                  .hidden = b.h,
                  .accumulate = whole},
       {d_home, shifted(kept.position, begin * held)}, {target});
  if (!whole) {
    const Operand all =
        share_results(b, kept, target, "slice_grad_sum", "share_grad_gather", "dn_experts");
    b.op("dn_add", Add{b.T * b.h}, {all}, {dn});
  }
  gate_backward(b, moe, n, kept, d_weight_all, dn);
}

}  // namespace imhotep::program
