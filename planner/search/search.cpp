#include "planner/search/search.h"

#include <algorithm>
#include <chrono>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "planner/search/evaluator.h"
#include "planner/search/kv_budget.h"
#include "planner/search/layerwise.h"
#include "planner/search/pool.h"
#include "simulator/styles/restyle.h"

namespace imhotep::planner {
namespace {

using Clock = std::chrono::steady_clock;

class Search {
 public:
  Search(const Space& space, const simulator::Simulator& simulator, const SearchOptions& options)
      : space_(space),
        simulator_(simulator),
        options_(options),
        evaluator_(space, simulator, options.threads),
        bounded_(options.kept > 0 || space.size() > kExhaustive || !options.known.empty()),
        pool_(options.kept > 0 ? options.kept : default_kept(space.size())) {
    const std::size_t wanted = finalists(options, space.request().cluster.overlap);
    if (options.known.size() >= wanted) to_beat_ = options.known[wanted - 1];
  }

  SearchResult run() {
    const Clock::time_point start = Clock::now();
    result_.enumerated = space_.size();
    for (std::size_t f = 0; f < space_.frames().size() && !result_.interrupted; ++f) scan_frame(f);
    choose_finalists();
    if (options_.layerwise && !result_.interrupted) mix_layers();
    explain_rejected();
    if (space_.request().kv.any()) settle_caches();
    result_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(result_);
  }

 private:
  void scan_frame(std::size_t f) {
    const Frame& frame = space_.frames()[f];
    const Request& request = space_.request();
    if (frame.world > options_.limits.gpus.value_or(frame.world)) return skip(frame);
    evaluator_.enter(f);
    limit_bytes_ = memory_limit_bytes(request, options_.limits, frame.world);
    caps_ = time_caps(options_.limits, request.workload, request.cluster, frame.world);
    for (const Variant& variant : space_.variants()) {
      candidate_ = {.frame = static_cast<std::int32_t>(f), .variant = variant};
      choices_.assign(frame.choices.size(), 0);
      scan_kind(frame, frame.choices.size(), frame.combinations);
      if (result_.interrupted || stopped()) return;
    }
  }

  // More devices than allowed.
  void skip(const Frame& frame) {
    for (const Variant& variant : space_.variants()) {
      candidate_.variant = variant;
      choices_.assign(frame.choices.size(), 0);
      const Count all = legal_below(frame, frame.choices.size(), frame.combinations);
      result_.pruned += all;
      result_.rejections.limits += all;
    }
  }

  bool stopped() {
    const auto done = static_cast<double>(result_.evaluated + result_.pruned);
    const auto total = static_cast<double>(result_.enumerated);
    result_.interrupted = options_.progress && !options_.progress(done, total);
    return result_.interrupted;
  }

  // Choices of the kinds from `left` on are made; `combinations`: of those before it.
  void scan_kind(const Frame& frame, std::size_t left, std::uint64_t combinations) {
    if (left == 0) {
      look_at(frame);
      return;
    }
    if (bounded_ && hopeless(frame, left)) {
      result_.pruned += legal_below(frame, left, combinations);
      return;
    }
    const std::size_t kind = left - 1;
    const std::uint64_t rest = combinations / frame.choices[kind].size();
    for (const std::uint32_t choice : evaluator_.by_time(kind)) {
      choices_[kind] = choice;
      scan_kind(frame, kind, rest);
      if (result_.interrupted) return;
    }
    choices_[kind] = 0;
  }

  // Not one of those that other searches have beaten.
  [[nodiscard]] bool wanted(const Score& sum) const { return !to_beat_ || sum < *to_beat_; }

  // Nothing below can beat what the pool holds, or nothing below can fit.
  bool hopeless(const Frame& frame, std::size_t left) {
    const Times least = evaluator_.least_times(candidate_.variant, choices_, left);
    const Workload& work = space_.request().workload;
    const Score bound = score(options_.objective, work, frame.world, least);
    if (pool_.refuses(bound) || !wanted(bound)) return true;
    const bool heavy = evaluator_.least_weights(choices_, left) > limit_bytes_;
    if (!heavy && caps_.allow(least)) return false;
    const std::vector<std::uint32_t> made = choices_;
    for (std::size_t k = 0; k < left; ++k) {
      choices_[k] = heavy ? evaluator_.lightest(k) : evaluator_.by_time(k).front();
    }
    const std::int64_t bytes = evaluator_.memory(candidate_.variant, choices_).total();
    if (heavy && !smallest_) reject(here(frame), bytes);
    if (!heavy && bytes <= limit_bytes_) {
      come_near(here(frame), evaluator_.times(candidate_.variant, choices_));
    }
    choices_ = made;
    return true;
  }

  // Plans below this point of the tree; those that could divide nothing were never counted.
  Count legal_below(const Frame& frame, std::size_t left, std::uint64_t combinations) const {
    if (space_.legal_always(frame, candidate_.variant)) return combinations;
    for (std::size_t k = left; k < choices_.size(); ++k) {
      if (space_.decisive(frame, frame.choices[k][choices_[k]])) return combinations;
    }
    Count alone = 1;
    for (std::size_t k = 0; k < left; ++k) {
      const auto& choices = frame.choices[k];
      alone *= static_cast<Count>(std::count_if(choices.begin(), choices.end(), [&](auto& choice) {
        return !space_.decisive(frame, choice);
      }));
    }
    return combinations - alone;
  }

  Candidate here(const Frame& frame) const {
    Candidate candidate = candidate_;
    for (std::size_t k = choices_.size(); k-- > 0;) {
      candidate.combination = candidate.combination * frame.choices[k].size() + choices_[k];
    }
    return candidate;
  }

  void reject(const Candidate& candidate, std::int64_t bytes) {
    const double over = static_cast<double>(bytes) / static_cast<double>(limit_bytes_);
    if (smallest_ && over >= smallest_over_) return;
    smallest_ = candidate;
    smallest_over_ = over;
  }

  void come_near(const Candidate& candidate, const Times& times) {
    const double excess = caps_.excess(times);
    if (nearest_ && excess >= nearest_excess_) return;
    nearest_ = candidate;
    nearest_excess_ = excess;
  }

  void look_at(const Frame& frame) {
    constexpr std::uint64_t kBetweenLooks = 1 << 16;
    const Candidate candidate = here(frame);
    if (!space_.legal(candidate)) return;
    if (++result_.evaluated % kBetweenLooks == 0 && stopped()) return;
    const Times times = evaluator_.times(candidate_.variant, choices_);
    const MemoryBound bytes = evaluator_.memory(candidate_.variant, choices_);
    const Scored scored{
        .score = score(options_.objective, space_.request().workload, frame.world, times),
        .candidate = candidate,
        .bytes = bytes.total()};
    if (scored.bytes <= limit_bytes_) {
      if (caps_.allow(times)) {
        pool_.add(scored);
      } else {
        ++result_.rejections.limits;
        come_near(candidate, times);
      }
      return;
    }
    Rejections& rejections = result_.rejections;
    ++(bytes.weights > limit_bytes_                 ? rejections.weights
       : bytes.weights + bytes.state > limit_bytes_ ? rejections.state
                                                    : rejections.activations);
    rejected_.add(scored);
    reject(candidate, scored.bytes);
  }

  RankedPlan build(const Candidate& candidate) const {
    const Plan plan = space_.plan(candidate);
    const Request& request = space_.request();
    return measure_memory(plan, memory_limit_bytes(request, options_.limits, plan.world),
                          request.cluster.device.libraries);
  }

  void predict(RankedPlan& ranked) const {
    ranked.plan.predicted = simulator_.predict(ranked.plan);
    ranked.plan.predicted.memory_bytes = ranked.memory.total();
  }

  Score score_of(const RankedPlan& ranked) const {
    const Prediction& predicted = ranked.plan.predicted;
    return score(options_.objective, space_.request().workload, ranked.plan.world,
                 {.step_us = predicted.time_us.value, .prompt_us = predicted.prompt_us.value});
  }

  // A sum of memoised parts may keep a limit that the simulated step breaks.
  bool keeps_limits(RankedPlan& ranked) const {
    const Request& request = space_.request();
    const TimeCaps caps =
        time_caps(options_.limits, request.workload, request.cluster, ranked.plan.world);
    const Prediction& predicted = ranked.plan.predicted;
    std::vector<std::string> broken = broken_limits(
        caps, {.step_us = predicted.time_us.value, .prompt_us = predicted.prompt_us.value});
    if (broken.empty()) return true;
    ranked.verdict = {.feasible = false, .reasons = std::move(broken)};
    return false;
  }

  // The bound of a plan may fit where the plan does not: buffers leave gaps between them.
  void choose_finalists() {
    const std::size_t most = finalists(options_, space_.request().cluster.overlap);
    while (result_.plans.size() < most) {
      const std::optional<Scored> next = pool_.take_best();
      if (!next || !wanted(next->score)) break;
      RankedPlan ranked = build(next->candidate);
      if (!ranked.verdict.feasible) {
        ++result_.rejections.activations;
        rejected_.add(*next);
        continue;
      }
      predict(ranked);
      if (!keeps_limits(ranked)) {
        ++result_.rejections.limits;
        if (!result_.nearest) result_.nearest = std::move(ranked);
        continue;
      }
      if (!result_.best_sum) result_.best_sum = next->score;
      result_.sums.push_back(next->score);
      ranked.sum = next->score;
      result_.plans.push_back(std::move(ranked));
      if (stopped()) break;
    }
    std::stable_sort(
        result_.plans.begin(), result_.plans.end(),
        [&](const RankedPlan& a, const RankedPlan& b) { return score_of(a) < score_of(b); });
    if (result_.plans.size() > static_cast<std::size_t>(options_.top)) {
      result_.plans.resize(options_.top);
    }
  }

  void mix_layers() {
    std::optional<Score> best = options_.beat;
    if (result_.best_sum && (!best || *result_.best_sum < *best)) best = result_.best_sum;
    result_.layers = search_layers(space_, simulator_, evaluator_, options_, best);
    if (stopped()) result_.layers->proved = false;
    if (!result_.layers->better) return;
    const auto place = std::upper_bound(
        result_.plans.begin(), result_.plans.end(), *result_.layers->better,
        [&](const RankedPlan& a, const RankedPlan& b) { return score_of(a) < score_of(b); });
    result_.plans.insert(place, *result_.layers->better);
    if (result_.plans.size() > static_cast<std::size_t>(options_.top)) result_.plans.pop_back();
  }

  void settle_caches() {
    for (RankedPlan& ranked : result_.plans) {
      widen_cache(ranked, space_.request().kv,
                  memory_limit_bytes(space_.request(), options_.limits, ranked.plan.world),
                  space_.request().cluster.device.libraries);
    }
  }

  void explain_rejected() {
    for (int i = 0; i < options_.top && !result_.interrupted; ++i) {
      const std::optional<Scored> next = rejected_.take_best();
      if (!next) break;
      RankedPlan ranked = build(next->candidate);
      predict(ranked);
      result_.rejected.push_back(std::move(ranked));
    }
    if (!result_.plans.empty()) return;
    if (smallest_) result_.smallest = build(*smallest_);
    if (!nearest_ || result_.nearest) return;
    result_.nearest = build(*nearest_);
    predict(*result_.nearest);
    static_cast<void>(keeps_limits(*result_.nearest));
  }

  const Space& space_;
  const simulator::Simulator& simulator_;
  const SearchOptions& options_;
  Evaluator evaluator_;
  bool bounded_;  // branch and bound rather than a look at every plan
  Pool pool_;
  Pool rejected_{kRejectedKept};
  std::optional<Score> to_beat_;
  SearchResult result_;
  Candidate candidate_;
  std::vector<std::uint32_t> choices_;
  std::int64_t limit_bytes_ = 0;
  std::optional<Candidate> smallest_;
  double smallest_over_ = 0;
  TimeCaps caps_;
  std::optional<Candidate> nearest_;
  double nearest_excess_ = 0;
};

const char* kind_name(int kind) {
  constexpr const char* kNames[program::kBufferKinds] = {
      "weights",     "gradients", "optimizer state", "KV cache",  "inputs",
      "activations", "exchange",  "scratch",         "workspace", "libraries"};
  return kNames[kind];
}

}  // namespace

std::size_t finalists(const SearchOptions& options, bool overlap) {
  constexpr std::size_t kSpare = 4;
  return static_cast<std::size_t>(options.top) + (overlap ? kSpare : 0);
}

SearchResult search(const Space& space, const simulator::Simulator& simulator,
                    const SearchOptions& options) {
  return Search(space, simulator, options).run();
}

std::int64_t memory_limit_bytes(const Request& request, const Limits& limits, int world) {
  const std::int64_t has = rank_memory_bytes(request.cluster, world);
  return std::min(has, limits.memory_bytes.value_or(has));
}

RankedPlan measure_memory(Plan plan, std::int64_t limit_bytes, const LibraryBytes& libraries) {
  RankedPlan ranked{.plan = std::move(plan)};
  for (int rank = 0; rank < (ranked.plan.tensor > 1 ? 2 : 1); ++rank) {
    program::MemoryUse use = program::plan_memory(ranked.plan, Rank(rank), libraries);
    use.by_kind[static_cast<int>(program::BufferKind::Activation)] +=
        simulator::style_bytes(ranked.plan);
    if (rank > 0 && use.total() <= ranked.memory.total()) continue;
    ranked.memory = use;
    ranked.fullest = Rank(rank);
  }
  const std::int64_t total = ranked.memory.total();
  if (total <= limit_bytes) return ranked;
  const auto& kinds = ranked.memory.by_kind;
  const auto largest = std::max_element(kinds.begin(), kinds.end());
  const auto bytes = [](std::int64_t count) { return format_bytes(static_cast<double>(count)); };
  ranked.verdict = {.feasible = false,
                    .reasons = {fmt::format(
                        "rank {} of {} needs {} ({} bytes), {} more than the {} it has; most "
                        "of it {}: {}",
                        ranked.fullest.value, ranked.plan.world, bytes(total), total,
                        bytes(total - limit_bytes), bytes(limit_bytes),
                        kind_name(static_cast<int>(largest - kinds.begin())), bytes(*largest))}};
  return ranked;
}

}  // namespace imhotep::planner
