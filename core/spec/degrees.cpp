// The arithmetic of a plan's degrees. Every reason names the place, the value and what would do,
// because the person who reads it has typed one of the numbers.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>

#include "core/base/fail.h"
#include "core/layout/groups.h"
#include "core/spec/plan.h"

namespace imhotep {
namespace {

std::int64_t product(std::int64_t a, std::int64_t b, std::int64_t c = 1) {
  std::int64_t out = 0;
  const bool overflow = __builtin_mul_overflow(a, b, &out) || __builtin_mul_overflow(out, c, &out);
  return overflow ? std::numeric_limits<std::int64_t>::max() : out;
}

// "possible: 1, 2, 4, 8", or the nearest ones where there are many.
std::string possible_divisors(std::int64_t of, std::int64_t wanted) {
  constexpr std::size_t kMost = 8, kNearest = 3;
  constexpr std::int64_t kLargestTried = 1000000;
  std::vector<std::int64_t> divisors;
  for (std::int64_t d = 1; d <= kLargestTried && d * d <= of; ++d) {
    if (of % d != 0) continue;
    divisors.push_back(d);
    if (d * d != of) divisors.push_back(of / d);
  }
  std::sort(divisors.begin(), divisors.end());
  const bool many = divisors.size() > kMost;
  if (many) {
    std::stable_sort(divisors.begin(), divisors.end(), [&](std::int64_t a, std::int64_t b) {
      return std::abs(a - wanted) < std::abs(b - wanted);
    });
    divisors.resize(kNearest);
    std::sort(divisors.begin(), divisors.end());
  }
  return fmt::format("{}: {}", many ? "nearest possible" : "possible", fmt::join(divisors, ", "));
}

class DegreeCheck {
 public:
  explicit DegreeCheck(const Plan& plan) : plan_(plan) {}

  Verdict run() {
    if (positive()) {
      check_world();
      check_layers();
      check_workload();
      check_routing();
      check_recompute();
      check_device();
      check_cache();
    }
    return {.feasible = reasons_.empty(), .reasons = std::move(reasons_)};
  }

 private:
  void refuse(std::string reason) { reasons_.push_back(std::move(reason)); }

  void check_cache() {
    if (plan_.kv_tokens == 0) return;
    if (plan_.workload.kind == WorkloadKind::Training) {
      return refuse("kv_tokens is for generation; training keeps no KV cache");
    }
    if (plan_.kv_pages() >= plan_.needed_pages()) return;
    refuse(fmt::format("kv_tokens is {}; {} sequences of {} tokens need at least {}",
                       plan_.kv_tokens, plan_.sequences_per_rank(),
                       plan_.workload.prompt + plan_.workload.output,
                       plan_.needed_pages() * plan_.page_size));
  }

  bool positive() {
    const auto at_least_one = [&](const std::string& name, std::int64_t value) {
      if (value < 1) refuse(fmt::format("{} is {}; it must be at least 1", name, value));
    };
    at_least_one("world", plan_.world);
    at_least_one("tensor", plan_.tensor);
    at_least_one("data", plan_.data);
    at_least_one("ranks_per_node", plan_.ranks_per_node);
    at_least_one("micro_batch", plan_.micro_batch);
    at_least_one("accumulation", plan_.accumulation);
    at_least_one("page_size", plan_.page_size);
    at_least_one("prefill_chunk", plan_.prefill_chunk);
    for (const MoeLayerPlan& moe : plan_.moe_layers) {
      at_least_one(fmt::format("layer {}: expert", moe.layer), moe.expert);
      at_least_one(fmt::format("layer {}: slicing", moe.layer), moe.slicing);
      at_least_one(fmt::format("layer {}: replica", moe.layer), moe.replica);
    }
    return reasons_.empty();
  }

  void check_world() {
    const ModelSpec& model = plan_.model;
    const int common = std::gcd(std::gcd(model.heads, model.padded_vocab()), model.ffn());
    const auto divide = [&](int whole, const char* what) {
      if (whole % plan_.tensor == 0) return;
      refuse(fmt::format("tensor {} does not divide {} {}; {}", plan_.tensor, whole, what,
                         possible_divisors(std::gcd(common, plan_.world), plan_.tensor)));
    };
    divide(model.heads, "heads");
    divide(model.padded_vocab(), "padded words");
    divide(model.ffn(), "feed-forward columns");
    const std::int64_t ranks = product(plan_.tensor, plan_.data);
    if (ranks == plan_.world) return;
    const std::string advice =
        plan_.world % plan_.tensor == 0
            ? fmt::format("data must be {}", plan_.world / plan_.tensor)
            : "for tensor " + possible_divisors(std::gcd(common, plan_.world), plan_.tensor);
    refuse(fmt::format("tensor {} x data {} = {}, but the world has {} ranks; {}", plan_.tensor,
                       plan_.data, ranks, plan_.world, advice));
  }

  void check_layers() {
    std::vector<int> expected, listed;
    for (int layer = 0; layer < plan_.model.layers; ++layer) {
      if (plan_.model.experts_at(layer) > 0) expected.push_back(layer);
    }
    for (const MoeLayerPlan& moe : plan_.moe_layers) listed.push_back(moe.layer);
    if (listed != expected) {
      refuse(fmt::format("moe_layers lists blocks [{}], but the MoE layers of \"{}\" are [{}]",
                         fmt::join(listed, ", "), plan_.model.name, fmt::join(expected, ", ")));
      return;
    }
    const bool world_is_right = reasons_.empty();
    for (const MoeLayerPlan& moe : plan_.moe_layers) check_layer(moe, world_is_right);
  }

  void check_layer(const MoeLayerPlan& moe, bool world_is_right) {
    const std::size_t before = reasons_.size();
    const auto say = [&](const std::string& text) {
      refuse(fmt::format("layer {}: {}", moe.layer, text));
    };
    const int experts = plan_.model.experts_at(moe.layer), ffn = plan_.model.ffn();
    if (moe.experts != experts) {
      say(fmt::format("the plan says {} experts, the model {}", moe.experts, experts));
    }
    const std::string experts_possible =
        possible_divisors(std::gcd(experts, plan_.world), moe.expert);
    const std::string slicing_possible = possible_divisors(std::gcd(ffn, plan_.world), moe.slicing);
    if (experts % moe.expert != 0) {
      say(fmt::format("expert {} does not divide {} experts; {}", moe.expert, experts,
                      experts_possible));
    }
    if (ffn % moe.slicing != 0) {
      say(fmt::format("slicing {} does not divide {} feed-forward columns; {}", moe.slicing, ffn,
                      slicing_possible));
    }
    const std::int64_t block = product(moe.expert, moe.slicing);
    const std::int64_t ranks = product(block, moe.replica);
    if (ranks != plan_.world) {
      const std::string advice =
          plan_.world % block == 0 ? fmt::format("replica must be {}", plan_.world / block)
          : plan_.world % moe.expert == 0
              ? "for slicing " +
                    possible_divisors(std::gcd(ffn, plan_.world / moe.expert), moe.slicing)
              : "for expert " + experts_possible;
      say(fmt::format("expert {} x slicing {} x replica {} = {}, but the world has {} ranks; {}",
                      moe.expert, moe.slicing, moe.replica, ranks, plan_.world, advice));
    }
    if (!world_is_right || reasons_.size() > before) return;
    const std::string problem = exchange_problem(plan_, moe);
    if (!problem.empty()) say(problem);
  }

  void check_workload() {
    const Workload& work = plan_.workload;
    const int context = plan_.model.context;
    if (work.kind == WorkloadKind::Generation) {
      if (work.prompt > context || work.output > context - work.prompt) {
        refuse(fmt::format("prompt {} + output {} exceeds the context of {} tokens", work.prompt,
                           work.output, context));
      }
      return;
    }
    if (work.sequence > context) {
      refuse(fmt::format("sequence {} exceeds the context of {} tokens", work.sequence, context));
    }
    check_batch(work.global_batch);
  }

  void check_batch(std::int64_t batch) {
    if (product(plan_.micro_batch, plan_.accumulation, plan_.data) == batch) return;
    const std::int64_t share = batch / plan_.data;
    std::string advice;
    if (batch % plan_.data != 0) {
      advice =
          "for data " + possible_divisors(std::gcd<std::int64_t>(batch, plan_.world), plan_.data);
    } else if (share % plan_.micro_batch != 0) {
      advice = "for micro_batch " + possible_divisors(share, plan_.micro_batch);
    } else {
      advice = fmt::format("accumulation must be {}", share / plan_.micro_batch);
    }
    refuse(
        fmt::format("micro_batch {} x accumulation {} x data {} is not the global batch of {} "
                    "sequences; {}",
                    plan_.micro_batch, plan_.accumulation, plan_.data, batch, advice));
  }

  void check_routing() {
    const RoutingSpec& routing = plan_.workload.routing;
    if (routing.kind != RoutingKind::Measured) return;
    if (routing.histograms.size() != plan_.moe_layers.size()) {
      refuse(fmt::format("measured routing has {} histograms for {} MoE layers",
                         routing.histograms.size(), plan_.moe_layers.size()));
      return;
    }
    for (std::size_t i = 0; i < plan_.moe_layers.size(); ++i) {
      const MoeLayerPlan& moe = plan_.moe_layers[i];
      const std::vector<double>& shares = routing.histograms[i];
      const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
      const bool valid = shares.size() == static_cast<std::size_t>(moe.experts) &&
                         std::abs(sum - 1) < 1e-3 &&
                         std::all_of(shares.begin(), shares.end(), [](double s) { return s >= 0; });
      if (valid) continue;
      refuse(
          fmt::format("layer {}: measured routing needs {} shares that sum to 1, got {} that sum "
                      "to {:.4g}",
                      moe.layer, moe.experts, shares.size(), sum));
    }
  }

  void check_recompute() {
    const std::vector<int>& layers = plan_.recompute_layers;
    if (plan_.recompute != Recompute::Some) {
      if (layers.empty()) return;
      refuse(fmt::format("recompute_layers lists {} blocks, but recompute is \"{}\", not \"some\"",
                         layers.size(), name_of(plan_.recompute)));
      return;
    }
    const bool ascending = std::is_sorted(layers.begin(), layers.end(), std::less_equal<>());
    const bool inside =
        !layers.empty() && layers.front() >= 0 && layers.back() < plan_.model.layers;
    if (ascending && inside) return;
    refuse(
        fmt::format("recompute some: expected ascending blocks from 0 to {} in recompute_layers, "
                    "got [{}]",
                    plan_.model.layers - 1, fmt::join(layers, ", ")));
  }

  void check_device() {
    if (plan_.zero < 0 || plan_.zero > 1) {
      refuse(fmt::format("ZeRO stage {} is unknown; possible: 0, 1", plan_.zero));
    }
    if (plan_.dtype == Dtype::I32) refuse("weights cannot be int32; possible: fp32, fp64, bf16");
    if (plan_.executable && plan_.style != ExecutionStyle::Imhotep) {
      refuse(fmt::format("style {} can be priced but not run (executable must be false)",
                         name_of(plan_.style)));
    }
    if (plan_.executable && plan_.device == DeviceKind::Cpu && plan_.dtype == Dtype::Bf16) {
      refuse(
          "bf16 on cpu can be priced but not run (executable must be false); to run: fp32, fp64");
    }
  }

  const Plan& plan_;
  std::vector<std::string> reasons_;
};

}  // namespace

Verdict check_degrees(const Plan& plan) { return DegreeCheck(plan).run(); }

}  // namespace imhotep
