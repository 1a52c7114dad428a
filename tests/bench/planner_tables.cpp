// The tables of docs/benchmarks/planner-*.txt: how a search grows, how many plans a second are
// priced, what degrees of their own bring to pyramids, the paper's own choices, recipes.
// Not a test: ninja planner_tables && tests/planner/planner_tables
// growth [SVG]|rates|pyramids|paper|recipes

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <string>

#include "core/base/units.h"
#include "planner/explain/order.h"
#include "planner/search/block_prices.h"
#include "planner/search/evaluator.h"
#include "planner/search/search.h"
#include "profiles/catalogue.h"

namespace imhotep::planner {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Clocks {
  std::chrono::steady_clock::time_point wall = std::chrono::steady_clock::now();
  std::clock_t cpu = std::clock();
  [[nodiscard]] double wall_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count();
  }
  [[nodiscard]] double cpu_s() const {
    return static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
  }
};

double peak_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e3;
}

const char* name_of_kind(WorkloadKind kind) {
  return kind == WorkloadKind::Training ? "training" : "generation";
}

Request request_of(const char* model, const char* cluster, int world, WorkloadKind kind) {
  Request request{.model = profiles::find_model(model),
                  .cluster = profiles::find_cluster(cluster),
                  .dtype = Dtype::Bf16,
                  .worlds = {world}};
  request.cluster.nodes = std::max(1, world / request.cluster.devices_per_node);
  request.workload.kind = kind;
  request.workload.sequence = std::min(2048, request.model.context);
  request.workload.global_batch = kind == WorkloadKind::Training ? 512 : 128;
  return request;
}

std::string count_of(const BigCount& count) {
  return count.value() < 1e7 ? count.text() : fmt::format("{:.1e}", count.value());
}

std::string degrees(const Plan& plan) {
  std::string text = fmt::format("t{}", plan.tensor);
  if (plan.workload.kind == WorkloadKind::Training) {
    text += fmt::format(" {}x{} z{} {}", plan.micro_batch, plan.accumulation, plan.zero,
                        plan.recompute == Recompute::Some
                            ? fmt::format("recompute {}", plan.recompute_layers.size())
                        : plan.recompute == Recompute::Full ? "recompute all"
                                                            : "recompute none");
  }
  if (plan.rank_order == RankOrder::Strided) text += " strided";
  int alike = 0;
  for (std::size_t i = 0; i < plan.moe_layers.size(); ++i) {
    const MoeLayerPlan& moe = plan.moe_layers[i];
    ++alike;
    MoeLayerPlan next = i + 1 < plan.moe_layers.size() ? plan.moe_layers[i + 1] : MoeLayerPlan{};
    next.layer = moe.layer;
    if (next == moe) continue;
    text += fmt::format(" | {}x {}e: {}x{}x{} {}", alike, moe.experts, moe.expert, moe.slicing,
                        moe.replica, name_of(moe.exchange).substr(0, 4));
    alike = 0;
  }
  return text;
}

SearchResult full_search(const Request& request, int top = 1) {
  const Space space(request);
  const simulator::Simulator simulator(request.cluster);
  return search(space, simulator,
                {.objective = default_objective(request.workload.kind),
                 .top = top,
                 .layerwise = true,
                 .threads = 2});
}

struct GrowthPoint {
  int world = 0;
  double plans = 0, cpu_s = 0;
};

// Plans and processor time over devices, both axes logarithmic.
std::string growth_picture(const std::vector<GrowthPoint>& points) {
  constexpr double kLeft = 70, kTop = 50, kWide = 480, kHigh = 260;
  const auto x = [&](double world) {
    return kLeft + kWide * std::log2(world / points.front().world) /
                       std::log2(static_cast<double>(points.back().world) / points.front().world);
  };
  // Plans from 10^60 to 10^90 on the left, seconds from 0.1 to 100 on the right.
  const auto plans_y = [&](double plans) {
    return kTop + kHigh * (1 - (std::log10(plans) - 60) / 30);
  };
  const auto time_y = [&](double s) { return kTop + kHigh * (1 - (std::log10(s) + 1) / 3); };
  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"360\" viewBox=\"0 0 640 "
      "360\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n<rect width=\"640\" "
      "height=\"360\" fill=\"white\"/>\n<text x=\"12\" y=\"22\" font-size=\"15\">47b-moe-128, "
      "training: every layer chooses by itself</text>\n<text x=\"12\" y=\"40\" "
      "fill=\"#3a78a8\">plans</text>\n<text x=\"628\" y=\"40\" text-anchor=\"end\" "
      "fill=\"#c1440e\">seconds of a core</text>\n";
  for (int tick = 0; tick <= 3; ++tick) {
    const double y = kTop + kHigh * (1 - tick / 3.0);
    svg += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#ddd\"/>\n<text "
        "x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\" fill=\"#3a78a8\">10^{5}</text>\n<text "
        "x=\"{6}\" y=\"{4:.1f}\" fill=\"#c1440e\">{7:g}</text>\n",
        kLeft, kLeft + kWide, y, kLeft - 8, y + 4, 60 + 10 * tick, kLeft + kWide + 8,
        std::pow(10.0, tick - 1));
  }
  const auto draw = [&](const char* color, auto y_of) {
    std::string line;
    for (const GrowthPoint& point : points) {
      line += fmt::format("{:.1f},{:.1f} ", x(point.world), y_of(point));
    }
    svg += fmt::format(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" "
        "stroke-width=\"2\"/>\n",
        line, color);
  };
  draw("#3a78a8", [&](const GrowthPoint& point) { return plans_y(point.plans); });
  draw("#c1440e", [&](const GrowthPoint& point) { return time_y(point.cpu_s); });
  for (const GrowthPoint& point : points) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       x(point.world), kTop + kHigh + 20, point.world);
  }
  return svg + "<text x=\"310\" y=\"350\" text-anchor=\"middle\">A100s</text>\n</svg>\n";
}

void growth(const std::string& picture) {
  std::vector<GrowthPoint> points;
  fmt::print("{:<12}{:>7}{:>7}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>7}{:>8}{:>8}{:>6}  {}\n",
             "workload", "GPUs", "frames", "plans", "priced", "no memory", "too slow", "dominated",
             "problems", "gap %", "wall s", "CPU s", "MB", "best");
  for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
    for (int world = 64; world <= 16384; world *= 2) {
      Request request = request_of("47b-moe-128", "azure-ndm-a100-v4", world, kind);
      request.workload.global_batch = kind == WorkloadKind::Training ? 4096 : world;
      if (world > 4096) request.workload.global_batch = world;
      const Clocks clocks;
      const Space space(request);
      const SearchResult found = full_search(request);
      const LayerwiseResult& layers = *found.layers;
      BigCount priced = layers.evaluated;
      priced += BigCount(found.evaluated);
      fmt::print(
          "{:<12}{:>7}{:>7}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>7.2f}{:>8.2f}{:>8.2f}{:>6.0f}  "
          "{}\n",
          name_of_kind(kind), world, space.frames().size(), count_of(layers.enumerated),
          count_of(priced), count_of(layers.over_memory), count_of(layers.too_slow),
          count_of(layers.dominated), layers.problems, 100 * layers.gap, clocks.wall_s(),
          clocks.cpu_s(), peak_mb(),
          found.plans.empty() ? "none fits"
                              : format_time(found.plans.front().plan.predicted.time_us.value) +
                                    " " + degrees(found.plans.front().plan));
      std::fflush(stdout);
      if (kind == WorkloadKind::Training) {
        points.push_back(
            {.world = world, .plans = layers.enumerated.value(), .cpu_s = clocks.cpu_s()});
      }
    }
  }
  if (!picture.empty()) std::ofstream(picture) << growth_picture(points);
}

void rates() {
  const Request request =
      request_of("1.3b-pr-moe-64-128", "azure-nd-a100-v4", 128, WorkloadKind::Training);
  const Space space(request);
  const simulator::Simulator simulator(request.cluster);
  Clocks cold;
  std::size_t blocks = 0;
  for (const Frame& frame : space.frames()) {
    const FramePrice price = price_frame(space, frame, simulator);
    for (const auto& kind : price.kinds) blocks += kind.size();
  }
  fmt::print("cold blocks: {} in {:.3f} s of one core, {:.0f} a second\n", blocks, cold.cpu_s(),
             static_cast<double>(blocks) / cold.cpu_s());
  Evaluator evaluator(space, simulator);
  std::int32_t frame = -1;
  double seconds = 0, least = kInfinity;
  std::uint64_t plans = 0;
  Clocks warm;
  std::vector<std::uint32_t> choices;
  space.for_each([&](const Candidate& candidate) {
    if (candidate.frame != frame) {
      seconds += frame < 0 ? 0 : warm.cpu_s();
      frame = candidate.frame;
      evaluator.enter(frame);
      warm = {};
    }
    choices.clear();
    std::uint64_t rest = candidate.combination;
    for (const auto& list : space.frames()[frame].choices) {
      choices.push_back(static_cast<std::uint32_t>(rest % list.size()));
      rest /= list.size();
    }
    const Times times = evaluator.times(candidate.variant, choices);
    const MemoryBound bytes = evaluator.memory(candidate.variant, choices);
    if (bytes.total() < 40'000'000'000) least = std::min(least, times.step_us);
    ++plans;
  });
  seconds += warm.cpu_s();
  fmt::print(
      "plans, time and memory from memoised blocks: {} in {:.3f} s of one core, {:.0f} a "
      "second; least {}\n",
      plans, seconds, static_cast<double>(plans) / seconds, format_time(least));
  const Clocks whole;
  const SearchResult found = full_search(request);
  fmt::print(
      "the whole search, two threads: {} plans priced in {:.3f} s, {:.3f} s CPU, {:.0f} a "
      "second of CPU\n",
      count_text(found.evaluated), whole.wall_s(), whole.cpu_s(),
      static_cast<double>(found.evaluated) / whole.cpu_s());
}

// The best plan in which all MoE layers have the same degrees and exchange, as other planners
// would choose it; nothing when none fits.
std::optional<RankedPlan> best_single_tuple(const Request& request) {
  const Space space(request);
  const simulator::Simulator simulator(request.cluster);
  Evaluator evaluator(space, simulator);
  struct Entry {
    Score score;
    Candidate candidate;
  };
  std::vector<Entry> entries;
  for (std::size_t f = 0; f < space.frames().size(); ++f) {
    const Frame& frame = space.frames()[f];
    evaluator.enter(f);
    for (std::uint32_t c = 0; c < frame.choices[0].size(); ++c) {
      const LayerChoice& own = frame.choices[0][c];
      std::vector<std::uint32_t> choices = {c};
      for (std::size_t k = 1; k < frame.choices.size(); ++k) {
        const auto& list = frame.choices[k];
        const auto same = std::find_if(list.begin(), list.end(), [&](const LayerChoice& other) {
          return other.expert == own.expert && other.slicing == own.slicing &&
                 other.exchange == own.exchange;
        });
        if (same == list.end()) break;
        choices.push_back(static_cast<std::uint32_t>(same - list.begin()));
      }
      if (choices.size() < frame.choices.size()) continue;
      for (const Variant& variant : space.variants()) {
        Candidate candidate{.frame = static_cast<std::int32_t>(f), .variant = variant};
        for (std::size_t k = choices.size(); k-- > 0;) {
          candidate.combination = candidate.combination * frame.choices[k].size() + choices[k];
        }
        const std::int64_t limit = rank_memory_bytes(request.cluster, frame.world);
        if (evaluator.memory(variant, choices).total() > limit) continue;
        entries.push_back({score(default_objective(request.workload.kind), request.workload,
                                 frame.world, evaluator.times(variant, choices)),
                           candidate});
      }
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.score < b.score; });
  for (const Entry& entry : entries) {
    RankedPlan plan = measure_memory(space.plan(entry.candidate),
                                     rank_memory_bytes(request.cluster, request.worlds.front()),
                                     request.cluster.device.libraries);
    if (!plan.verdict.feasible) continue;
    plan.plan.predicted = simulator.predict(plan.plan);
    return plan;
  }
  return std::nullopt;
}

double latency_of(const Plan& plan) {
  const double step = plan.predicted.time_us.value;
  if (plan.workload.kind == WorkloadKind::Training) return step;
  return plan.predicted.prompt_us.value + static_cast<double>(plan.workload.output) * step;
}

void pyramids() {
  fmt::print("{:<32}{:<11}{:>5}{:>11}{:>11}{:>8}{:>8}  {}\n", "model", "workload", "GPUs",
             "one tuple", "per layer", "gain %", "differ", "plan");
  for (const std::string& model : profiles::model_names()) {
    if (model.find("pr-moe") == std::string::npos || model.starts_with("nano") ||
        model.starts_with("tiny")) {
      continue;
    }
    for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
      for (int world = 8; world <= 256; world *= 2) {
        const Request request = request_of(model.c_str(), "azure-ndm-a100-v4", world, kind);
        const SearchResult found = full_search(request);
        const std::optional<RankedPlan> single = best_single_tuple(request);
        if (found.plans.empty()) {
          fmt::print("{:<32}{:<11}{:>5}  none fits\n", model, name_of_kind(kind), world);
          continue;
        }
        const Plan& best = found.plans.front().plan;
        const double best_us = latency_of(best);
        bool differ = false;
        for (const MoeLayerPlan& moe : best.moe_layers) {
          differ = differ || moe.expert != best.moe_layers[0].expert ||
                   moe.slicing != best.moe_layers[0].slicing;
        }
        fmt::print(
            "{:<32}{:<11}{:>5}{:>11}{:>11}{:>8}{:>8}  {}\n", model, name_of_kind(kind), world,
            single ? format_time(latency_of(single->plan)) : "none fits", format_time(best_us),
            single ? fmt::format("{:.2f}", 100 * (latency_of(single->plan) / best_us - 1)) : "-",
            differ ? "yes" : "no", degrees(best));
        std::fflush(stdout);
      }
    }
  }
}

// The plan that the paper names beside the one that is found.
void against(const char* model, int world, const Request& request, const char* fix) {
  Request fixed = request;
  fixed.fixed = parse_fixed_degrees(fix, request.model);
  const SearchResult best = full_search(request), named = full_search(fixed);
  fmt::print("{} on {} GPUs, {}, named: {}\n", model, world, name_of_kind(request.workload.kind),
             fix);
  if (best.plans.empty() || named.plans.empty()) {
    fmt::print("  {} fits\n", named.plans.empty() ? "no plan as named" : "none");
    if (named.smallest) fmt::print("  {}\n", named.smallest->verdict.reasons.front());
    if (best.plans.empty()) return;
  }
  const simulator::Simulator simulator(request.cluster);
  const auto line = [&](const char* name, const Plan& plan) {
    fmt::print("  {:<8}{:>10} ({} to {}) {}\n", name, format_time(plan.predicted.time_us.value),
               format_time(plan.predicted.time_us.low), format_time(plan.predicted.time_us.high),
               degrees(plan));
  };
  line("found", best.plans.front().plan);
  if (named.plans.empty()) return;
  line("named", named.plans.front().plan);
  const auto step = [&](const Plan& plan) {
    return request.workload.kind == WorkloadKind::Training ? simulator.training_step(plan)
                                                           : simulator.decode_step(plan);
  };
  const Order order = order_of(step(best.plans.front().plan), step(named.plans.front().plan));
  fmt::print("  the named one takes {:+.2f} %; this order is wrong with probability {:.3f}\n",
             100 * (latency_of(named.plans.front().plan) / latency_of(best.plans.front().plan) - 1),
             order.wrong);
}

void paper() {
  for (const char* model : {"24b-moe-128", "47b-moe-128"}) {
    // 8 sequences a model-parallel replica of 8 GPUs (DeepSpeed-MoE, section 6).
    Request request = request_of(model, "azure-nd-a100-v4", 256, WorkloadKind::Generation);
    request.workload.global_batch = 256;
    against(model, 256, request, "tensor=8,expert=128,slicing=2");
    against(model, 256, request, "tensor=8,expert=128,slicing=2,exchange=coordinated");
  }
  Request request = request_of("1.3b-moe-128", "azure-nd-a100-v4", 128, WorkloadKind::Generation);
  request.workload.global_batch = 1024;
  against("1.3b-moe-128", 128, request, "tensor=1,expert=128,slicing=1");
  request = request_of("350m-pr-moe-32-64", "azure-nd-a100-v4", 128, WorkloadKind::Training);
  request.workload.global_batch = 256;
  against("350m-pr-moe-32-64", 128, request, "tensor=1,expert=32x32,64x64,slicing=1");
  request = request_of("1.3b-pr-moe-64-128", "azure-nd-a100-v4", 128, WorkloadKind::Training);
  against("1.3b-pr-moe-64-128", 128, request, "tensor=1,expert=64x64,128x128,slicing=1");
}

void recipes() {
  const struct {
    const char* model;
    int world;
    std::int64_t batch;
  } recipes[] = {{"350m-pr-moe-32-64", 64, 256}, {"1.3b-pr-moe-64-128-mos-l21", 128, 512}};
  for (const auto& recipe : recipes) {
    Request request =
        request_of(recipe.model, "azure-nd-a100-v4", recipe.world, WorkloadKind::Training);
    request.workload.global_batch = recipe.batch;
    const SearchResult found = full_search(request, 3);
    fmt::print("{} on {} ranks: {} plans, {} priced, proved {}\n", recipe.model, recipe.world,
               count_of(found.layers->enumerated), count_text(found.evaluated),
               found.layers->proved);
    for (const RankedPlan& plan : found.plans) {
      fmt::print("  {:>10}  {:>8}  {}\n", format_time(plan.plan.predicted.time_us.value),
                 format_bytes(static_cast<double>(plan.memory.total())), degrees(plan.plan));
    }
  }
}

}  // namespace
}  // namespace imhotep::planner

int main(int count, char** words) {
  using namespace imhotep::planner;
  const std::string what = count > 1 ? words[1] : "";
  if (what == "growth") {
    growth(count > 2 ? words[2] : "");
  } else if (what == "rates") {
    rates();
  } else if (what == "pyramids") {
    pyramids();
  } else if (what == "paper") {
    paper();
  } else if (what == "recipes") {
    recipes();
  } else {
    fmt::print(stderr, "expected growth, rates, pyramids, paper or recipes, got \"{}\"\n", what);
    return 2;
  }
  return 0;
}
