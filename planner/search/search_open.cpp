#include "planner/search/search_open.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace imhotep::planner {
namespace {

Score score_of(const RankedPlan& ranked, Objective objective) {
  const Plan& plan = ranked.plan;
  return score(
      objective, plan.workload, plan.world,
      {.step_us = plan.predicted.time_us.value, .prompt_us = plan.predicted.prompt_us.value});
}

class OpenSearch {
 public:
  OpenSearch(const simulator::Simulator& simulator, const SearchOptions& options)
      : simulator_(simulator), options_(options) {}

  OpenResult run(const std::vector<Alternative>& alternatives) {
    std::optional<Error> refused;
    for (const Alternative& one : alternatives) {
      if (result_.found.interrupted) break;
      try {
        look_at(one);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::Input) throw;
        result_.alternatives.push_back({.choice = one.choice, .refused = error.what()});
        if (!refused) refused = error;
      }
    }
    if (refused && result_.found.enumerated == 0) throw Error(*refused);
    result_.found.best_sum = best_;
    return std::move(result_);
  }

 private:
  void look_at(const Alternative& one) {
    const Space space(one.request);
    SearchOptions own = options_;
    own.known = known_;
    own.beat = best_;
    SearchResult found = search(space, simulator_, own);
    SearchedAlternative searched{.choice = one.choice,
                                 .enumerated = enumerated_plans(found),
                                 .evaluated = evaluated_plans(found)};
    for (const RankedPlan& ranked : found.plans) {
      if (!searched.best || ranked.sum < *searched.best) searched.best = ranked.sum;
    }
    if (searched.best && (!best_ || *searched.best < *best_)) best_ = searched.best;
    result_.alternatives.push_back(std::move(searched));
    remember(found.sums, one.request.cluster.overlap);
    merge(std::move(found), one.request);
  }

  // The best sums of like layers, as many as a search returns.
  void remember(const std::vector<Score>& sums, bool overlap) {
    known_.insert(known_.end(), sums.begin(), sums.end());
    std::sort(known_.begin(), known_.end());
    const std::size_t most = finalists(options_, overlap);
    if (known_.size() > most) known_.resize(most);
  }

  void merge(SearchResult found, const Request& request) {
    SearchResult& all = result_.found;
    const auto better = [&](const RankedPlan& a, const RankedPlan& b) {
      return score_of(a, options_.objective) < score_of(b, options_.objective);
    };
    const auto join = [&](std::vector<RankedPlan>& to, std::vector<RankedPlan>& from) {
      to.insert(to.end(), std::move_iterator(from.begin()), std::move_iterator(from.end()));
      std::stable_sort(to.begin(), to.end(), better);
      if (to.size() > static_cast<std::size_t>(options_.top)) to.resize(options_.top);
    };
    join(all.plans, found.plans);
    join(all.rejected, found.rejected);
    all.enumerated += found.enumerated;
    all.evaluated += found.evaluated;
    all.pruned += found.pruned;
    all.rejections.weights += found.rejections.weights;
    all.rejections.state += found.rejections.state;
    all.rejections.activations += found.rejections.activations;
    all.rejections.limits += found.rejections.limits;
    all.seconds += found.seconds;
    all.interrupted = all.interrupted || found.interrupted;
    keep_least(all.smallest, found.smallest, smallest_, [&](const RankedPlan& ranked) {
      return static_cast<double>(ranked.memory.total()) /
             static_cast<double>(memory_limit_bytes(request, options_.limits, ranked.plan.world));
    });
    keep_least(all.nearest, found.nearest, nearest_, [&](const RankedPlan& ranked) {
      const Prediction& predicted = ranked.plan.predicted;
      return time_caps(options_.limits, request.workload, request.cluster, ranked.plan.world)
          .excess({.step_us = predicted.time_us.value, .prompt_us = predicted.prompt_us.value});
    });
    merge_layers(std::move(found.layers));
  }

  template <class Measure>
  static void keep_least(std::optional<RankedPlan>& kept, std::optional<RankedPlan>& found,
                         double& least, Measure measure) {
    if (!found) return;
    const double value = measure(*found);
    if (kept && value >= least) return;
    least = value;
    kept = std::move(found);
  }

  void merge_layers(std::optional<LayerwiseResult> found) {
    if (!found) return;
    std::optional<LayerwiseResult>& all = result_.found.layers;
    if (!all) {
      all = std::move(found);
      return;
    }
    all->enumerated += found->enumerated;
    all->evaluated += found->evaluated;
    all->over_memory += found->over_memory;
    all->too_slow += found->too_slow;
    all->dominated += found->dominated;
    all->proved = all->proved && found->proved;
    all->gap = std::max(all->gap, found->gap);
    all->problems += found->problems;
    if (!found->better) return;
    all->better = std::move(found->better);  // of what was known before
    all->sum = found->sum;
  }

  const simulator::Simulator& simulator_;
  const SearchOptions& options_;
  std::vector<Score> known_;
  std::optional<Score> best_;
  double smallest_ = 0, nearest_ = 0;
  OpenResult result_;
};

}  // namespace

OpenResult search_open(const std::vector<Alternative>& alternatives,
                       const simulator::Simulator& simulator, const SearchOptions& options) {
  return OpenSearch(simulator, options).run(alternatives);
}

BigCount enumerated_plans(const SearchResult& found) {
  if (found.layers && found.layers->enumerated.any()) return found.layers->enumerated;
  return found.enumerated;
}

BigCount evaluated_plans(const SearchResult& found) {
  BigCount count = found.evaluated;
  if (found.layers && found.layers->enumerated.any()) count += found.layers->evaluated;
  return count;
}

}  // namespace imhotep::planner
