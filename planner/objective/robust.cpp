#include "planner/objective/robust.h"

#include <algorithm>
#include <memory>

#include "core/base/fail.h"
#include "planner/search/evaluator.h"

namespace imhotep::planner {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kFinalists = 32;

// A case with everything that judges plans in it.
struct Court {
  explicit Court(const Case& one)
      : what(one),
        space(one.request),
        simulator(one.request.cluster, one.profile),
        evaluator(space, simulator) {}
  const Case& what;
  Space space;
  simulator::Simulator simulator;
  Evaluator evaluator;
  double best = 0;
  std::int64_t limit_bytes = 0;
  TimeCaps caps;
};

struct Judged {
  double worst = kInfinity;
  Candidate candidate;
};

bool same_shape(const Space& a, const Space& b) {
  if (a.frames().size() != b.frames().size()) return false;
  for (std::size_t f = 0; f < a.frames().size(); ++f) {
    const Frame &x = a.frames()[f], &y = b.frames()[f];
    if (x.world != y.world || x.tensor != y.tensor || x.micro_batch != y.micro_batch ||
        x.accumulation != y.accumulation || x.combinations != y.combinations) {
      return false;
    }
  }
  return true;
}

class Robust {
 public:
  Robust(const std::vector<Case>& cases, const std::function<bool()>& stop) : stop_(stop) {
    for (const Case& one : cases) courts_.push_back(std::make_unique<Court>(one));
    for (const auto& court : courts_) {
      if (same_shape(court->space, courts_.front()->space)) continue;
      fail_input(
          "the cases have different plans, because the split of a training batch follows from the "
          "batch; ask for bands instead");
    }
  }

  RobustResult run() {
    std::vector<Candidate> specialists;
    for (const auto& court : courts_) {
      const SearchResult found =
          search(court->space, court->simulator,
                 {.objective = court->what.objective, .top = 1, .limits = court->what.limits});
      if (!found.best_sum) return {};
      court->best = found.best_sum->first;
      specialists.push_back(candidate_of(found.plans.front().plan));
    }
    for (std::size_t f = 0; f < front().space.frames().size() && !stopped(); ++f) scan(f);
    choose();
    for (const Candidate& candidate : specialists) result_.specialists.push_back(judge(candidate));
    return std::move(result_);
  }

 private:
  Court& front() { return *courts_.front(); }
  [[nodiscard]] bool stopped() const { return stop_ && stop_(); }

  Candidate candidate_of(const Plan& plan) {
    Candidate found;
    const std::string key = degrees_key(plan, true);
    front().space.for_each([&](const Candidate& candidate) {
      const Frame& frame = front().space.frames()[candidate.frame];
      if (frame.world != plan.world || frame.tensor != plan.tensor ||
          frame.micro_batch != plan.micro_batch || candidate.variant.zero != plan.zero ||
          candidate.variant.recompute != plan.recompute) {
        return;
      }
      if (degrees_key(front().space.plan(candidate), true) == key) found = candidate;
    });
    return found;
  }

  void scan(std::size_t f) {
    for (const auto& court : courts_) {
      court->evaluator.enter(f);
      const Request& request = court->space.request();
      const int world = court->space.frames()[f].world;
      court->limit_bytes = memory_limit_bytes(request, court->what.limits, world);
      court->caps = time_caps(court->what.limits, request.workload, request.cluster, world);
    }
    const Frame& frame = front().space.frames()[f];
    for (const Variant& variant : front().space.variants()) {
      here_ = {.frame = static_cast<std::int32_t>(f), .variant = variant};
      choices_.assign(frame.choices.size(), 0);
      descend(frame, frame.choices.size(), static_cast<double>(frame.combinations));
    }
  }

  double ratio(Court& court, int world, const Times& times) const {
    return score(court.what.objective, court.space.request().workload, world, times).first /
           court.best;
  }

  void descend(const Frame& frame, std::size_t left, double combinations) {
    double least = 0;
    for (const auto& court : courts_) {
      const Times times = left > 0 ? court->evaluator.least_times(here_.variant, choices_, left)
                                   : court->evaluator.times(here_.variant, choices_);
      least =
          std::max(least, court->caps.allow(times) ? ratio(*court, frame.world, times) : kInfinity);
      if (least >= cutoff()) {
        result_.pruned += combinations;
        return;
      }
    }
    if (left == 0) {
      look_at(frame, least);
      return;
    }
    const std::size_t kind = left - 1;
    for (std::uint32_t c = 0; c < frame.choices[kind].size(); ++c) {
      choices_[kind] = c;
      descend(frame, kind, combinations / static_cast<double>(frame.choices[kind].size()));
    }
    choices_[kind] = 0;
  }

  [[nodiscard]] double cutoff() const {
    return finalists_.size() < kFinalists ? kInfinity : finalists_.back().worst;
  }

  void look_at(const Frame& frame, double worst) {
    ++result_.evaluated;
    Candidate candidate = here_;
    for (std::size_t k = choices_.size(); k-- > 0;) {
      candidate.combination = candidate.combination * frame.choices[k].size() + choices_[k];
    }
    if (!front().space.legal(candidate)) return;
    for (const auto& court : courts_) {
      const MemoryBound bytes = court->evaluator.memory(here_.variant, choices_);
      if (bytes.total() > court->limit_bytes) return;
    }
    const Judged judged{.worst = worst, .candidate = candidate};
    const auto place =
        std::upper_bound(finalists_.begin(), finalists_.end(), judged,
                         [](const Judged& a, const Judged& b) { return a.worst < b.worst; });
    finalists_.insert(place, judged);
    if (finalists_.size() > kFinalists) finalists_.pop_back();
  }

  RobustPlan judge(const Candidate& candidate) {
    RobustPlan judged;
    const int world = front().space.frames()[candidate.frame].world;
    std::vector<std::uint32_t> choices;
    std::uint64_t rest = candidate.combination;
    for (const auto& list : front().space.frames()[candidate.frame].choices) {
      choices.push_back(static_cast<std::uint32_t>(rest % list.size()));
      rest /= list.size();
    }
    for (const auto& court : courts_) {
      court->evaluator.enter(candidate.frame);
      const Times times = court->evaluator.times(candidate.variant, choices);
      judged.ratio.push_back(ratio(*court, world, times));
      const RankedPlan plan =
          measure_memory(court->space.plan(candidate),
                         memory_limit_bytes(court->space.request(), court->what.limits, world),
                         court->space.request().cluster.device.libraries);
      if (!plan.verdict.feasible) judged.ratio.back() = kInfinity;
      if (court == courts_.front()) judged.plan = plan;
    }
    judged.plan.plan.predicted = front().simulator.predict(judged.plan.plan);
    judged.plan.plan.predicted.memory_bytes = judged.plan.memory.total();
    judged.worst = *std::max_element(judged.ratio.begin(), judged.ratio.end());
    return judged;
  }

  void choose() {
    for (const Judged& finalist : finalists_) {
      RobustPlan judged = judge(finalist.candidate);
      if (judged.worst == kInfinity) continue;
      result_.best = std::move(judged);
      return;
    }
  }

  std::vector<std::unique_ptr<Court>> courts_;
  const std::function<bool()>& stop_;
  Candidate here_;
  std::vector<std::uint32_t> choices_;
  std::vector<Judged> finalists_;  // the best first
  RobustResult result_;
};

}  // namespace

RobustResult most_robust(const std::vector<Case>& cases, const std::function<bool()>& stop) {
  if (cases.empty()) fail("no cases to be robust over");
  return Robust(cases, stop).run();
}

std::vector<Case> cases_of(const Case& one, const Range& range) {
  constexpr double kSkewStep = 0.25;
  std::vector<Case> cases;
  double value = range.from;
  for (;;) {
    cases.push_back(changed(one, range.quantity, value));
    if (value >= range.to) return cases;
    value = std::min(range.to, range.quantity == Quantity::Skew ? value + kSkewStep : value * 2);
  }
}

}  // namespace imhotep::planner
