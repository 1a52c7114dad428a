// From a question to its plans. A frame of the planner's space (world, tensor degree, micro-batch)
// is priced once; its thousands of plans are sums.

#include <QThread>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <limits>
#include <numeric>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/kind_names.h"
#include "gui/presenter/planning.h"
#include "planner/search/evaluator.h"

namespace imhotep::gui {
namespace {

using planner::Candidate;
using Kind = Column::Kind;

struct Row {
  planner::Score score;
  Candidate candidate;
  double step_us = 0, prompt_us = 0, bytes = 0;
  bool fits = false;
};

class Explorer {
 public:
  Explorer(const Question& question, const Prices& prices, const Stop& stop,
           const ExploreOptions& options)
      : space_(request_of(question)),
        prices_(prices),
        simulator_(*prices.simulator),
        threads_(std::max(1, QThread::idealThreadCount())),
        evaluator_(space_, simulator_, threads_),
        stop_(stop),
        options_(options) {
    plans_.question = question;
    plans_.prices = prices.text;
  }

  PlanSet run() {
    const auto start = std::chrono::steady_clock::now();
    const std::size_t frames = space_.frames().size();
    for (std::size_t f = 0; f < frames && !stop_.requested(); ++f) {
      scan(f);
      if (options_.progress)
        options_.progress(static_cast<double>(f + 1) / static_cast<double>(frames));
    }
    if (dropped_ > 0) trim();
    // Best first, as whoever looks at the table wants them.
    std::stable_sort(rows_.begin(), rows_.end(), before);
    if (dropped_ > 0) {
      plans_.note = QString("the best %1 of %2 plans; the others are left out")
                        .arg(rows_.size())
                        .arg(dropped_ + static_cast<std::int64_t>(rows_.size()));
    }
    write_columns();
    simulate_finalists();
    simulate_front();
    remember(prices_, simulator_);
    for (const simulator::Simulator& copy : evaluator_.copies()) remember(prices_, copy);
    if (stop_.requested()) plans_.note = "stopped before the end";
    plans_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(plans_);
  }

 private:
  void scan(std::size_t f) {
    evaluator_.enter(f);
    const planner::Frame& frame = space_.frames()[f];
    const double limit =
        static_cast<double>(planner::rank_memory_bytes(space_.request().cluster, frame.world));
    std::vector<std::uint32_t> choices(frame.choices.size(), 0);
    for (const planner::Variant& variant : space_.variants()) {
      Candidate candidate{.frame = static_cast<std::int32_t>(f), .variant = variant};
      for (; candidate.combination < frame.combinations; ++candidate.combination) {
        if (candidate.combination % 4096 == 0 && stop_.requested()) return;
        if (!space_.legal(candidate)) continue;
        std::uint64_t rest = candidate.combination;
        for (std::size_t k = 0; k < choices.size(); ++k) {
          choices[k] = static_cast<std::uint32_t>(rest % frame.choices[k].size());
          rest /= frame.choices[k].size();
        }
        const planner::Times times = evaluator_.times(variant, choices);
        Row row{.candidate = candidate, .step_us = times.step_us, .prompt_us = times.prompt_us};
        row.bytes = static_cast<double>(evaluator_.memory(variant, choices).total());
        row.fits = row.bytes <= limit;
        row.score = planner::score(plans_.question.goal.objective, space_.request().workload,
                                   frame.world, times);
        rows_.push_back(row);
        if (static_cast<std::int64_t>(rows_.size()) >= 2 * options_.most) trim();
      }
    }
  }

  static bool before(const Row& a, const Row& b) {
    return a.fits != b.fits ? a.fits : a.score < b.score;
  }

  void trim() {
    const auto most = static_cast<std::size_t>(options_.most);
    if (rows_.size() <= most) return;
    const auto last = rows_.begin() + static_cast<std::ptrdiff_t>(most);
    std::nth_element(rows_.begin(), last, rows_.end(), before);
    dropped_ += static_cast<std::int64_t>(rows_.size() - most);
    rows_.resize(most);
  }

  template <class Value>
  void add(const QString& name, const QString& title, Kind kind, Value value,
           QStringList choices = {}, bool more_is_better = false) {
    Column column{.name = name,
                  .title = title,
                  .kind = kind,
                  .more_is_better = more_is_better,
                  .choices = std::move(choices)};
    column.values.reserve(rows_.size());
    for (const Row& row : rows_) column.values.push_back(static_cast<double>(value(row)));
    plans_.columns.push_back(std::move(column));
  }

  [[nodiscard]] const planner::Frame& frame(const Row& row) const {
    return space_.frames()[row.candidate.frame];
  }

  [[nodiscard]] double tokens_per_s(const Row& row) const {
    const Workload& work = space_.request().workload;
    const bool trains = work.kind == WorkloadKind::Training;
    const double tokens = static_cast<double>(work.global_batch * (trains ? work.sequence : 1));
    return tokens / row.step_us * 1e6;
  }

  void write_columns() {
    const Workload& work = space_.request().workload;
    const ClusterSpec& cluster = space_.request().cluster;
    const bool trains = work.kind == WorkloadKind::Training;
    add("time", trains ? "optimizer step" : "decode step", Kind::Time,
        [](const Row& row) { return row.step_us; });
    if (!trains) {
      add("prompt", "whole prompt", Kind::Time, [](const Row& row) { return row.prompt_us; });
    }
    add(
        "tokens", "tokens, all devices", Kind::Rate, [&](const Row& r) { return tokens_per_s(r); },
        {}, true);
    add(
        "tokens_per_gpu", "tokens a device", Kind::Rate,
        [&](const Row& r) { return tokens_per_s(r) / frame(r).world; }, {}, true);
    add("memory", "memory of the fullest rank", Kind::Bytes,
        [](const Row& row) { return row.bytes; });
    if (cluster.price_per_device_hour > 0) {
      add("cost", QString("%1 for a million tokens").arg(qt(cluster.currency)), Kind::Money,
          [&](const Row& r) {
            return cluster.price_per_device_hour * frame(r).world / 3600 / tokens_per_s(r) * 1e6;
          });
    }
    add("gpus", cluster.device.kind == DeviceKind::Cuda ? "GPUs" : "ranks", Kind::Count,
        [&](const Row& r) { return frame(r).world; });
    add("fits", "fits in memory", Kind::Choice, [](const Row& row) { return row.fits ? 1 : 0; },
        {"no", "yes", "priced only"});
    add("tensor", "tensor degree", Kind::Count, [&](const Row& r) { return frame(r).tensor; });
    add("data", "data degree", Kind::Count, [&](const Row& r) { return frame(r).data; });
    QStringList orders;
    for (const std::string& name : names_of<RankOrder>()) orders << qt(name);
    add(
        "order", "order of ranks", Kind::Choice,
        [&](const Row& r) { return static_cast<int>(frame(r).rank_order); }, orders);
    write_expert_columns();
    if (trains) {
      add("zero", "ZeRO stage", Kind::Count, [](const Row& r) { return r.candidate.variant.zero; });
      add("micro_batch", "micro-batch", Kind::Count,
          [&](const Row& r) { return frame(r).micro_batch; });
      add("accumulation", "accumulation", Kind::Count,
          [&](const Row& r) { return frame(r).accumulation; });
      add("recompute", "recomputation", Kind::Choice,
          [](const Row& r) { return r.candidate.variant.recompute == Recompute::Full ? 1 : 0; },
          {"none", "full"});
    }
  }

  void write_expert_columns() {
    const std::vector<QString> names = kind_names(space_);
    for (std::size_t k = 0; k < space_.kinds().size(); ++k) {
      const QString of = names[k].isEmpty() ? "" : QString(" (%1)").arg(names[k].mid(1));
      const auto choice = [this, k](const Row& r) -> const planner::LayerChoice& {
        return space_.choice(r.candidate, k);
      };
      add("expert" + names[k], "expert degree" + of, Kind::Count,
          [&](const Row& r) { return choice(r).expert; });
      add("slicing" + names[k], "expert slicing" + of, Kind::Count,
          [&](const Row& r) { return choice(r).slicing; });
      add("replica" + names[k], "expert replicas" + of, Kind::Count,
          [&](const Row& r) { return choice(r).replica; });
      QStringList exchanges;
      for (const std::string& name : names_of<ExchangeAlgorithm>()) exchanges << qt(name);
      add(
          "exchange" + names[k], "exchange" + of, Kind::Choice,
          [&](const Row& r) { return static_cast<int>(choice(r).exchange); }, exchanges);
    }
  }

  // A row built and simulated whole.
  struct Whole {
    planner::RankedPlan ranked;
    Prediction predicted;
  };
  [[nodiscard]] Whole whole(std::int64_t r, const simulator::Simulator& simulator) const {
    const Plan plan = space_.plan(rows_[r].candidate);
    const ClusterSpec& cluster = space_.request().cluster;
    const std::int64_t limit = planner::rank_memory_bytes(cluster, plan.world);
    return {planner::measure_memory(plan, limit, cluster.device.libraries),
            simulator.predict(plan)};
  }

  // On all cores; each has a simulator of its own, for they remember.
  std::vector<Whole> whole(const std::vector<std::int64_t>& rows) {
    std::vector<Whole> found(rows.size());
    std::atomic<std::size_t> next = 0;
    const auto work = [&](const simulator::Simulator& own) {
      for (std::size_t i = next++; i < rows.size(); i = next++) found[i] = whole(rows[i], own);
    };
    std::vector<std::future<void>> others;
    for (std::size_t t = 1; t < std::min<std::size_t>(threads_, rows.size()); ++t) {
      others.push_back(std::async(std::launch::async, [&, own = simulator_] { work(own); }));
    }
    work(simulator_);
    for (std::future<void>& other : others) other.get();
    return found;
  }

  // Exact memory, time and interval of one row; false when it does not fit after all.
  bool apply(std::int64_t r, const Whole& whole) {
    const auto& [ranked, predicted] = whole;
    const int world = ranked.plan.world;
    const auto set = [&](const char* name, double value) {
      const int index = plans_.index_of(name);
      if (index >= 0) plans_.columns[index].values[r] = value;
    };
    set("time", predicted.time_us.value);
    set("prompt", predicted.prompt_us.value);
    set("tokens", predicted.tokens_per_s);
    set("tokens_per_gpu", predicted.tokens_per_s / world);
    set("memory", static_cast<double>(ranked.memory.total()));
    set("cost", predicted.cost_per_mtoken);
    set("fits", ranked.verdict.feasible ? 1 : 0);
    rows_[r].fits = ranked.verdict.feasible;
    rows_[r].score = planner::score(
        plans_.question.goal.objective, space_.request().workload, world,
        {.step_us = predicted.time_us.value, .prompt_us = predicted.prompt_us.value});
    plans_.intervals.push_back({r, predicted.time_us.low, predicted.time_us.high});
    return ranked.verdict.feasible;
  }

  [[nodiscard]] std::vector<std::int64_t> all_usable() const {
    std::vector<std::int64_t> all(rows_.size());
    std::iota(all.begin(), all.end(), 0);
    return usable_rows(plans_, all);
  }

  void simulate_finalists() {
    std::vector<std::int64_t> order = all_usable();
    const auto before = [&](std::int64_t a, std::int64_t b) {
      return rows_[a].score != rows_[b].score ? rows_[a].score < rows_[b].score : a < b;
    };
    const auto kept = std::min<std::size_t>(order.size(), 4096);
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                      before);
    int found = 0;
    for (std::size_t begin = 0; begin < kept && found < options_.finalists;) {
      if (stop_.requested()) break;
      const std::size_t end = std::min(kept, begin + (options_.finalists - found));
      const std::vector<std::int64_t> rows(order.begin() + static_cast<std::ptrdiff_t>(begin),
                                           order.begin() + static_cast<std::ptrdiff_t>(end));
      const std::vector<Whole> simulated = whole(rows);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (!apply(rows[i], simulated[i]) || !within_limits(plans_, rows[i])) continue;
        ++found;
        if (plans_.best < 0 || rows_[rows[i]].score < rows_[plans_.best].score) {
          plans_.best = rows[i];
        }
      }
      begin = end;
    }
    if (plans_.best < 0 && kept > 0) plans_.best = order.front();
    sort_intervals();
  }

  void sort_intervals() {
    std::sort(plans_.intervals.begin(), plans_.intervals.end(),
              [](const Interval& a, const Interval& b) { return a.row < b.row; });
  }

  void simulate_front() {
    if (options_.front <= 0) return;
    const auto front =
        pareto_front(plans_, plans_.index_of("time"), plans_.index_of("memory"), all_usable());
    const double step = std::max(1.0, static_cast<double>(front.size()) / options_.front);
    std::vector<std::int64_t> chosen;
    for (double at = 0; at < static_cast<double>(front.size()); at += step) {
      const std::int64_t row = front[static_cast<std::size_t>(at)];
      if (plans_.interval(row) == nullptr) chosen.push_back(row);
    }
    if (stop_.requested()) return;
    const std::vector<Whole> simulated = whole(chosen);
    for (std::size_t i = 0; i < chosen.size(); ++i) apply(chosen[i], simulated[i]);
    sort_intervals();
  }

  planner::Space space_;
  const Prices& prices_;
  simulator::Simulator simulator_;
  int threads_;
  planner::Evaluator evaluator_;
  Stop stop_;
  const ExploreOptions& options_;
  PlanSet plans_;
  std::vector<Row> rows_;
  std::int64_t dropped_ = 0;
};

}  // namespace

PlanSet explore(const Question& question, const Prices& prices, const Stop& stop,
                const ExploreOptions& options) {
  PlanSet plans = Explorer(question, prices, stop, options).run();
  if (options.priced_only && !stop.requested()) add_priced_rows(plans);
  return plans;
}

}  // namespace imhotep::gui
