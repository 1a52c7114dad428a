#include "planner/search/layerwise.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "planner/search/layer_problem.h"

namespace imhotep::planner {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kStrictly = 1 - 1e-9;  // a better plan is better by more than rounding
constexpr std::int64_t kPadding = 16;   // elements a rank that sharing a region may save
constexpr std::size_t kMostStates = 4096;
// How many plans are laid out buffer by buffer: a few orders of each of the first answers of every
// task, and then as many of one search.
constexpr int kFewOrders = 8, kFewAnswers = 64, kMostOrders = 120, kMostMeasured = 500;

struct ItemSource {
  std::uint32_t choice = 0;
  int recompute = 0;
  std::int64_t kept = 0, peak = 0;
  [[nodiscard]] auto key() const { return std::tuple(kept - peak, choice, recompute); }
  bool operator<(const ItemSource& other) const { return key() < other.key(); }
};

// One frame and ZeRO stage.
struct Task {
  std::int32_t frame = 0;
  int zero = 0;
  double bound = 0;
};

class LayerSearch {
 public:
  LayerSearch(const Space& space, const simulator::Simulator& simulator, Evaluator& evaluator,
              const SearchOptions& options)
      : space_(space), simulator_(simulator), evaluator_(evaluator), options_(options) {
    const Request& request = space.request();
    trains_ = request.workload.kind == WorkloadKind::Training;
    dense_ = request.model.layers - request.model.moe_layers();
    for (const Variant& variant : space.variants()) {
      zeros_.insert(std::upper_bound(zeros_.begin(), zeros_.end(), variant.zero), variant.zero);
      (variant.recompute == Recompute::Full ? again_ : plain_) = true;
    }
    zeros_.erase(std::unique(zeros_.begin(), zeros_.end()), zeros_.end());
  }

  LayerwiseResult run(const std::optional<Score>& known) {
    best_ = known;
    if (!possible()) return {};
    result_.proved = true;
    std::vector<Task> tasks = list_tasks();
    std::stable_sort(tasks.begin(), tasks.end(),
                     [](const Task& a, const Task& b) { return a.bound < b.bound; });
    for (const Task& task : tasks) {
      if (stopped()) {
        result_.proved = false;
        break;
      }
      solve_task(task);
    }
    settle_proof();
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool possible() const {
    std::size_t states = static_cast<std::size_t>(dense_) + 1;
    for (const LayerKind& kind : space_.kinds()) {
      const RoutingKind routing = space_.request().workload.routing.kind;
      if (routing == RoutingKind::Measured && kind.layers.size() > 1) return false;
      states *= kind.layers.size() + 1;
      if (states > kMostStates) return false;
    }
    return true;
  }

  bool stopped() {
    return options_.progress && !options_.progress(static_cast<double>(done_++), 0);
  }

  [[nodiscard]] int world_of(const Task& task) const { return space_.frames()[task.frame].world; }

  [[nodiscard]] std::uint64_t ways() const { return (plain_ ? 1 : 0) + (again_ ? 1 : 0); }

  // Plans with so many items a layer: product of items^layers.
  [[nodiscard]] BigCount plans(const std::vector<std::uint64_t>& items) const {
    BigCount count(1);
    for (std::size_t k = 0; k < items.size(); ++k) {
      for (int i = 0; i < layers_of(k); ++i) count *= items[k];
    }
    return count;
  }

  [[nodiscard]] int layers_of(std::size_t kind) const {
    return kind < space_.kinds().size() ? static_cast<int>(space_.kinds()[kind].layers.size())
                                        : dense_;
  }

  [[nodiscard]] BigCount size_of(const Task& task) const {
    const Frame& frame = space_.frames()[task.frame];
    std::vector<std::uint64_t> all, idle;
    for (const auto& choices : frame.choices) {
      all.push_back(choices.size() * ways());
      const auto decisive = std::count_if(choices.begin(), choices.end(), [&](const auto& choice) {
        return space_.decisive(frame, choice);
      });
      idle.push_back((choices.size() - static_cast<std::uint64_t>(decisive)) * ways());
    }
    all.push_back(ways());
    idle.push_back(ways());
    BigCount count = plans(all);
    if (!space_.legal_always(frame, {.zero = task.zero})) count -= plans(idle);
    return count;
  }

  std::vector<Task> list_tasks() {
    std::vector<Task> tasks;
    for (std::size_t f = 0; f < space_.frames().size(); ++f) {
      const bool allowed =
          space_.frames()[f].world <= options_.limits.gpus.value_or(space_.frames()[f].world);
      for (const int zero : zeros_) {
        Task task{.frame = static_cast<std::int32_t>(f), .zero = zero};
        result_.enumerated += size_of(task);
        if (!allowed) {
          result_.too_slow += size_of(task);
          continue;
        }
        const LayerProblem problem = problem_of(task);
        task.bound = least_cost(problem);
        tasks.push_back(task);
      }
    }
    return tasks;
  }

  [[nodiscard]] static double least_cost(const LayerProblem& problem) {
    std::vector<double> least(problem.layers.size(), kInfinity);
    for (const LayerItem& item : problem.items) {
      const double cost =
          problem.step_weight * item.step_us + problem.prompt_weight * item.prompt_us;
      least[item.kind] = std::min(least[item.kind], cost);
    }
    double total =
        problem.step_weight * problem.step_us + problem.prompt_weight * problem.prompt_us;
    for (std::size_t k = 0; k < least.size(); ++k) {
      if (problem.layers[k] > 0) total += problem.layers[k] * least[k];
    }
    return total;
  }

  // Weights, gradients and optimizer state of one layer, at least.
  [[nodiscard]] std::int64_t state_bytes(const RegionPrice& region, int layers, int zero) const {
    const std::int64_t size = bytes_of(space_.request().dtype);
    const std::int64_t elements =
        std::max<std::int64_t>(0, region.elements - kPadding * region.group) / layers;
    if (!trains_) return elements * size;
    const std::int64_t updated = zero == 1 ? elements / region.group : elements;
    return 2 * elements * size + updated * optimizer_bytes(space_.request().dtype);
  }

  LayerProblem problem_of(const Task& task) {
    evaluator_.enter(task.frame);
    const Frame& frame = space_.frames()[task.frame];
    const Request& request = space_.request();
    const FramePrice& price = evaluator_.price();
    const auto steps = static_cast<double>(frame.accumulation);
    const RegionPrice& dense = evaluator_.regions().dense(frame);
    const Times more = evaluator_.overheads();
    const Times weights = score_weights(options_.objective, request.workload, frame.world);
    LayerProblem problem;
    problem.step_weight = weights.step_us;
    problem.prompt_weight = weights.prompt_us;
    problem.step_us =
        steps * price.base_us + more.step_us + (trains_ ? dense.update_us[task.zero] : 0);
    problem.prompt_us = trains_ ? 0 : price.base_prompt_us + more.prompt_us;
    limit_bytes_ = memory_limit_bytes(request, options_.limits, frame.world);
    const std::int64_t fixed = state_bytes(dense, 1, task.zero) + price.fixed_bytes;
    problem.bytes_limit = limit_bytes_ - fixed - price.base_bytes;
    add_limits(frame, problem);
    sources_.clear();
    degrees_.clear();
    for (std::size_t k = 0; k < space_.kinds().size(); ++k) {
      problem.layers.push_back(layers_of(k));
      for (std::uint32_t c = 0; c < frame.choices[k].size(); ++c) add_items(task, k, c, problem);
    }
    if (dense_ > 0) {
      problem.layers.push_back(dense_);
      add_dense_items(frame, problem);
    }
    problem.regions = static_cast<int>(degrees_.size());
    problem.shared_us = [this, &frame, zero = task.zero](int region, const auto& counts) {
      std::vector<int> layers(counts.begin(),
                              counts.begin() + static_cast<std::ptrdiff_t>(space_.kinds().size()));
      return evaluator_.regions().experts(frame, layers, degrees_[region]).update_us[zero];
    };
    if (best_) {
      problem.cutoff = score_to_beat(options_.objective, *best_, frame.world) * kStrictly;
    }
    return problem;
  }

  void add_limits(const Frame& frame, LayerProblem& problem) const {
    const Request& request = space_.request();
    const TimeCaps caps =
        time_caps(options_.limits, request.workload, request.cluster, frame.world);
    const auto add = [&](double step, double prompt, double limit_us) {
      if (limit_us < kInfinity) problem.limits.push_back({step, prompt, limit_us});
    };
    add(1, 0, caps.step_us);
    add(0, 1, caps.prompt_us);
    add(static_cast<double>(caps.output), 1, caps.latency_us);
  }

  int region_of(const LayerChoice& choice) {
    if (!trains_) return -1;  // no update
    const auto found = std::find_if(degrees_.begin(), degrees_.end(), [&](const auto& known) {
      return known.expert == choice.expert && known.slicing == choice.slicing;
    });
    if (found != degrees_.end()) return static_cast<int>(found - degrees_.begin());
    degrees_.push_back(choice);
    return static_cast<int>(degrees_.size()) - 1;
  }

  void add_items(const Task& task, std::size_t k, std::uint32_t c, LayerProblem& problem) {
    const Frame& frame = space_.frames()[task.frame];
    const RegionPrice& region =
        evaluator_.regions().experts(frame, std::uint64_t{1} << k, frame.choices[k][c]);
    LayerItem item{.kind = static_cast<int>(k),
                   .region = region_of(frame.choices[k][c]),
                   .bytes = state_bytes(region, layers_of(k), task.zero)};
    add_ways(frame, evaluator_.price().kinds[k][c], c, item, problem);
  }

  void add_dense_items(const Frame& frame, LayerProblem& problem) {
    const LayerItem item{.kind = static_cast<int>(space_.kinds().size())};
    add_ways(frame, evaluator_.price().dense, 0, item, problem);
  }

  void add_ways(const Frame& frame, const BlockPrice& block, std::uint32_t choice, LayerItem item,
                LayerProblem& problem) {
    const double layers = layers_of(item.kind);
    const std::int64_t state = item.bytes;
    for (const int r : {0, 1}) {
      if (!(r == 0 ? plain_ : again_)) continue;
      const double block_us = block.step_us + (r == 1 ? block.recompute_us : 0);
      item.step_us = static_cast<double>(frame.accumulation) * block_us / layers;
      item.prompt_us = trains_ ? 0 : block.prompt_us / layers;
      item.bytes = state + (trains_ ? block.kept[r] : 0);
      problem.items.push_back(item);
      sources_.push_back({choice, r, trains_ ? block.kept[r] : 0, block.peak[r]});
    }
  }

  void solve_task(const Task& task) {
    BigCount all = size_of(task);
    const auto beaten = [&] {
      return best_ &&
             task.bound >= score_to_beat(options_.objective, *best_, world_of(task)) * kStrictly;
    };
    if (beaten()) {
      result_.too_slow += all;
      return;
    }
    const LayerProblem problem = problem_of(task);
    const LayerAnswers found = solve(problem);
    ++result_.problems;
    BigCount fits = left(found.items_left_by_bytes, all),
             fast = left(found.items_left_by_time, fits);
    if (found.none_fits) fits = BigCount(0);
    if (fast > fits) fast = fits;
    result_.over_memory += all;
    result_.over_memory -= fits;
    result_.too_slow += fits;
    result_.too_slow -= fast;
    if (!found.complete) {
      open_.push_back({world_of(task), found.bound});
      result_.dominated += fast;
      return;
    }
    const std::uint64_t looked = try_answers(task, problem, found);
    BigCount priced(std::min<unsigned __int128>(looked, 1ULL << 40));
    if (priced > fast) priced = fast;
    result_.evaluated += priced;
    result_.dominated += fast;
    result_.dominated -= priced;
  }

  [[nodiscard]] BigCount left(const std::vector<int>& items, const BigCount& most) const {
    std::vector<std::uint64_t> counts(items.begin(), items.end());
    BigCount count = plans(counts);
    return count > most ? most : count;
  }

  // Until one fits. Those before it fitted by their bounds and not by their buffers; then another
  // one as cheap, but dominated by bounds, may fit: all of them are tried, if they are few.
  std::uint64_t try_answers(const Task& task, const LayerProblem& problem,
                            const LayerAnswers& found) {
    std::uint64_t looked = 0;
    double refused = kInfinity;
    for (const LayerAnswer& answer : found.answers) {
      if (++looked > kFewAnswers || try_answer(task, problem, answer, kFewOrders)) break;
      refused = std::min(refused, answer.cost);
    }
    if (std::isinf(refused)) return looked;
    constexpr std::size_t kFewLabels = 20'000;
    LayerProblem rest = problem;
    rest.all = true;
    if (best_) {
      rest.cutoff = score_to_beat(options_.objective, *best_, world_of(task)) * kStrictly;
    }
    const LayerAnswers all = solve(rest, kFewLabels);
    bool settled = all.complete;
    for (std::size_t i = 0; settled && i < all.answers.size(); ++i) {
      ++looked;
      const int before = measured_;
      if (try_answer(task, problem, all.answers[i], kMostOrders)) return looked;
      again_measured_ += measured_ - before;
      settled = again_measured_ < kMostMeasured && arrangements_tried_;
    }
    if (!settled) open_.push_back({world_of(task), refused});
    return looked;
  }

  using Sources = std::vector<std::vector<ItemSource>>;  // by kind and layer of the kind

  // What needs much beside what it keeps comes first, where little is kept yet.
  [[nodiscard]] Sources sources_of(const LayerProblem& problem, const LayerAnswer& answer) const {
    Sources all(space_.kinds().size() + 1);
    for (const auto& [item, count] : answer.picks) {
      all[problem.items[item].kind].insert(all[problem.items[item].kind].end(), count,
                                           sources_[item]);
    }
    for (auto& own : all) std::stable_sort(own.begin(), own.end());
    return all;
  }

  // The next of all orders of like layers; false when the first one has come again.
  static bool next_order(Sources& sources) {
    return std::any_of(sources.begin(), sources.end(), [](std::vector<ItemSource>& own) {
      return std::next_permutation(own.begin(), own.end());
    });
  }

  [[nodiscard]] LayerChoices arrange(const Sources& sources) const {
    const int layers = space_.request().model.layers;
    LayerChoices arranged{.choice = std::vector<std::uint32_t>(layers, 0),
                          .recompute = std::vector<bool>(layers, false)};
    std::vector<std::size_t> next(sources.size(), 0);
    for (int layer = 0; layer < layers; ++layer) {
      const int kind = space_.kind_of(layer);
      const std::size_t k = kind < 0 ? space_.kinds().size() : static_cast<std::size_t>(kind);
      const ItemSource& source = sources[k][next[k]++];
      arranged.choice[layer] = source.choice;
      arranged.recompute[layer] = source.recompute == 1;
    }
    return arranged;
  }

  [[nodiscard]] bool legal(const Task& task, const LayerChoices& layers) const {
    const Frame& frame = space_.frames()[task.frame];
    if (space_.legal_always(frame, {.zero = task.zero})) return true;
    for (std::size_t k = 0; k < space_.kinds().size(); ++k) {
      for (const int layer : space_.kinds()[k].layers) {
        if (space_.decisive(frame, frame.choices[k][layers.choice[layer]])) return true;
      }
    }
    return false;
  }

  // True when the answer is a plan that fits in some order of its layers.
  bool try_answer(const Task& task, const LayerProblem& problem, const LayerAnswer& answer,
                  int most_orders) {
    Sources sources = sources_of(problem, answer);
    arrangements_tried_ = true;
    if (!legal(task, arrange(sources))) return false;  // a plan of another frame or stage
    int orders = 0;
    do {
      if (++orders > most_orders) {
        arrangements_tried_ = false;
        return false;
      }
      if (try_order(task, arrange(sources))) return true;
    } while (next_order(sources));
    return false;
  }

  bool try_order(const Task& task, const LayerChoices& layers) {
    if (evaluator_.memory(task.zero, layers).total() > limit_bytes_) return false;
    ++measured_;
    RankedPlan ranked = measure_memory(space_.plan(task.frame, task.zero, layers), limit_bytes_,
                                       space_.request().cluster.device.libraries);
    if (!ranked.verdict.feasible) return false;
    ranked.plan.predicted = simulator_.predict(ranked.plan);
    ranked.plan.predicted.memory_bytes = ranked.memory.total();
    const Score sum = score(options_.objective, space_.request().workload, world_of(task),
                            evaluator_.times(task.zero, layers));
    best_ = sum;
    result_.sum = sum;
    ranked.sum = sum;
    result_.better = std::move(ranked);
    return true;
  }

  void settle_proof() {
    if (!best_) return;
    for (const Open& open : open_) {
      const double best = score_to_beat(options_.objective, *best_, open.world);
      if (open.cost >= best * kStrictly) continue;
      result_.proved = false;
      if (std::isfinite(best)) result_.gap = std::max(result_.gap, best / open.cost - 1);
    }
  }

  const Space& space_;
  const simulator::Simulator& simulator_;
  Evaluator& evaluator_;
  const SearchOptions& options_;
  bool trains_ = false, plain_ = false, again_ = false;
  int dense_ = 0;
  std::vector<int> zeros_;
  std::optional<Score> best_;
  std::vector<ItemSource> sources_;   // by item of the problem at hand
  std::vector<LayerChoice> degrees_;  // by region
  std::int64_t limit_bytes_ = 0;
  struct Open {  // what could not be settled: something there may cost so little
    int world = 1;
    double cost = 0;
  };
  std::vector<Open> open_;
  int measured_ = 0, again_measured_ = 0;
  bool arrangements_tried_ = true;
  std::uint64_t done_ = 0;
  LayerwiseResult result_;
};

}  // namespace

LayerwiseResult search_layers(const Space& space, const simulator::Simulator& simulator,
                              Evaluator& evaluator, const SearchOptions& options,
                              const std::optional<Score>& known) {
  return LayerSearch(space, simulator, evaluator, options).run(known);
}

}  // namespace imhotep::planner
