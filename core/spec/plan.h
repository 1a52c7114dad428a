#pragma once
// A plan: how one model and workload are laid over ranks, and what the simulator expects of it.
// Self-contained: it embeds the model and the workload, so a plan file alone can be run.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/enum_names.h"
#include "core/base/fields.h"
#include "core/base/shapes.h"
#include "core/spec/cluster.h"
#include "core/spec/model.h"
#include "core/spec/style.h"
#include "core/spec/workload.h"

namespace imhotep {

// Blocks whose activations are computed again in backward: none, all, or those that are listed.
enum class Recompute : std::uint8_t { None, Full, Some };

// Where expert-parallel peers sit. Slicing is always innermost.
enum class RankOrder : std::uint8_t {
  Consecutive,  // slicing, expert, replica outermost
  Strided,      // slicing, replica, expert outermost
};

// Degrees of one MoE layer: world = expert x slicing x replica.
struct MoeLayerPlan {
  int layer = 0;  // block, from 0
  int experts = 0;
  int expert = 1, slicing = 1, replica = 1;
  ExchangeAlgorithm exchange = ExchangeAlgorithm::Flat;
  std::int64_t receive_rows = 0;  // bound on rows a rank may receive; 0: the worst case

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("layer", s.layer, {.help = "block, from 0", .minimum = 0});
    visit("experts", s.experts, {.help = "experts of the layer", .minimum = 1});
    visit("expert", s.expert, {.help = "expert-parallel degree", .minimum = 1});
    visit("slicing", s.slicing, {.help = "expert-slicing degree", .minimum = 1});
    visit("replica", s.replica, {.help = "expert-data degree", .minimum = 1});
    visit("exchange", s.exchange, {.help = "all-to-all algorithm"});
    visit("receive_rows", s.receive_rows,
          {.help = "bound on rows received; 0: the worst case", .optional = true, .minimum = 0});
  }
  bool operator==(const MoeLayerPlan&) const = default;
};

// A predicted quantity with its 90 % interval.
struct Estimate {
  double value = 0, low = 0, high = 0;
  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("value", s.value, {});
    visit("low", s.low, {.help = "5th percentile"});
    visit("high", s.high, {.help = "95th percentile"});
  }
};

struct Prediction {
  Estimate time_us;               // training: one optimizer step; generation: one decode step
  Estimate prompt_us;             // generation: the whole prompt
  double tokens_per_s = 0;        // all devices together
  std::int64_t memory_bytes = 0;  // fullest rank
  double cost_per_mtoken = 0;     // money for a million tokens; 0: price unknown
  std::string profile;            // name of the profile used; empty: roofline only
  std::string profile_hash;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("time_us", s.time_us, {.help = "training step, or decode step"});
    visit("prompt_us", s.prompt_us, {.help = "generation: prefill", .optional = true});
    visit("tokens_per_s", s.tokens_per_s, {.help = "all devices together"});
    visit("memory_bytes", s.memory_bytes, {.help = "fullest rank"});
    visit("cost_per_mtoken", s.cost_per_mtoken, {.help = "per million tokens", .optional = true});
    visit("profile", s.profile, {.help = "profile used", .optional = true});
    visit("profile_hash", s.profile_hash, {.help = "its content hash", .optional = true});
  }
};

struct Plan {
  ModelSpec model;
  Workload workload;
  std::string cluster;
  ExecutionStyle style = ExecutionStyle::Imhotep;  // others can be priced, not run
  DeviceKind device = DeviceKind::Cpu;
  Dtype dtype = Dtype::F32;
  int world = 1, tensor = 1, data = 1;
  int ranks_per_node = 1;
  RankOrder rank_order = RankOrder::Consecutive;
  std::vector<MoeLayerPlan> moe_layers;
  int zero = 0;  // 0, or 1: optimizer state divided over the data (experts: replica) group
  std::int64_t micro_batch = 1;  // training: sequences a rank handles at once
  std::int64_t accumulation = 1;
  Recompute recompute = Recompute::None;
  std::vector<int> recompute_layers;  // some: blocks from 0, ascending
  std::int64_t page_size = 16;        // KV cache, tokens a page
  std::int64_t kv_tokens = 0;         // of a data rank's KV cache; 0: what its batch needs
  std::int64_t prefill_chunk = 128;   // rows of one prefill program; usual_prefill_chunk()
  Prediction predicted;
  bool executable = true;

  [[nodiscard]] const MoeLayerPlan* moe(int layer) const;  // nullptr for a dense block
  [[nodiscard]] bool recomputes(int layer) const;
  // Generation: sequences each data rank serves.
  [[nodiscard]] std::int64_t sequences_per_rank() const {
    return (workload.global_batch + data - 1) / data;
  }
  [[nodiscard]] std::int64_t pages_for(std::int64_t tokens) const {
    return (tokens + page_size - 1) / page_size;
  }
  // Generation: pages of a data rank's KV cache; those that its sequences fill, at least.
  [[nodiscard]] std::int64_t needed_pages() const {
    return sequences_per_rank() * pages_for(workload.prompt + workload.output);
  }
  [[nodiscard]] std::int64_t kv_pages() const {
    return kv_tokens > 0 ? pages_for(kv_tokens) : needed_pages();
  }

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("model", s.model, {.help = "the model, embedded"});
    visit("workload", s.workload, {.help = "the workload, embedded"});
    visit("cluster", s.cluster, {.help = "cluster the plan was made for"});
    visit("style", s.style, {.help = "whose way to carry it out", .optional = true});
    visit("device", s.device, {.help = "cpu or cuda"});
    visit("dtype", s.dtype, {.help = "weights and activations"});
    visit("world", s.world, {.help = "ranks", .minimum = 1});
    visit("tensor", s.tensor, {.help = "tensor-slicing degree", .minimum = 1});
    visit("data", s.data, {.help = "data degree; world = tensor x data", .minimum = 1});
    visit("ranks_per_node", s.ranks_per_node, {.help = "ranks a node", .minimum = 1});
    visit("rank_order", s.rank_order, {.help = "placement of expert groups", .optional = true});
    visit("moe_layers", s.moe_layers, {.help = "degrees of each MoE layer"});
    visit("zero", s.zero, {.help = "ZeRO stage", .optional = true, .minimum = 0, .maximum = 1});
    visit("micro_batch", s.micro_batch,
          {.help = "sequences at once", .optional = true, .minimum = 1});
    visit("accumulation", s.accumulation,
          {.help = "micro-batches a step", .optional = true, .minimum = 1});
    visit("recompute", s.recompute, {.help = "activations in backward", .optional = true});
    visit("recompute_layers", s.recompute_layers,
          {.help = "some: blocks computed again", .optional = true});
    visit("page_size", s.page_size, {.help = "KV tokens a page", .optional = true, .minimum = 1});
    visit("kv_tokens", s.kv_tokens,
          {.help = "KV cache of a data rank; 0: what its batch needs",
           .optional = true,
           .minimum = 0});
    visit("prefill_chunk", s.prefill_chunk,
          {.help = "prompt tokens a step", .optional = true, .minimum = 1});
    visit("predicted", s.predicted, {.help = "by the simulator", .optional = true});
    visit("executable", s.executable, {.help = "false: priced only", .optional = true});
  }
};

// A chunk of a prompt reads the weights of all experts that it touches: a GPU wants many rows.
[[nodiscard]] constexpr std::int64_t usual_prefill_chunk(DeviceKind device) {
  return device == DeviceKind::Cuda ? 2048 : 128;
}

inline constexpr const char* kPlanSchema = "imhotep.plan/1";

// Why a plan cannot be used, as data.
struct Verdict {
  bool feasible = true;
  std::vector<std::string> reasons;
};

// The arithmetic of degrees: products, divisibility, legal exchanges, nearest possible values.
[[nodiscard]] Verdict check_degrees(const Plan& plan);

[[nodiscard]] Plan read_plan(const std::string& file);  // Throws: Error(Input)
[[nodiscard]] Plan parse_plan(const std::string& text, const std::string& name);
[[nodiscard]] std::string plan_text(const Plan& plan);  // the JSON document
void write_plan(const Plan& plan, const std::string& file);
// Hash of everything but the prediction: two plans with one hash run the same.
[[nodiscard]] std::string plan_hash(const Plan& plan);

// Every degree 1; training takes the whole batch as one micro-batch.
[[nodiscard]] Plan single_rank_plan(const ModelSpec& model, const Workload& workload);

}  // namespace imhotep

IMHOTEP_ENUM_NAMES(imhotep::Recompute, {imhotep::Recompute::None, "none"},
                   {imhotep::Recompute::Full, "full"}, {imhotep::Recompute::Some, "some"})
IMHOTEP_ENUM_NAMES(imhotep::RankOrder, {imhotep::RankOrder::Consecutive, "consecutive"},
                   {imhotep::RankOrder::Strided, "strided"})
IMHOTEP_ENUM_NAMES(imhotep::Dtype, {imhotep::Dtype::F32, "fp32"}, {imhotep::Dtype::F64, "fp64"},
                   {imhotep::Dtype::Bf16, "bf16"}, {imhotep::Dtype::I32, "int32"})
IMHOTEP_ENUM_NAMES(imhotep::ExchangeAlgorithm, {imhotep::ExchangeAlgorithm::Flat, "flat"},
                   {imhotep::ExchangeAlgorithm::Hierarchical, "hierarchical"},
                   {imhotep::ExchangeAlgorithm::Coordinated, "coordinated"},
                   {imhotep::ExchangeAlgorithm::AllGather, "all_gather"})
