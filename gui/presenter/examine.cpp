// From a plan to what the views show of it: time by layer and class, streams, memory.

#include <algorithm>
#include <map>
#include <unordered_map>

#include "core/base/fail.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/planning.h"
#include "simulator/engine/program_graph.h"

namespace imhotep::gui {
namespace {

using program::Program;
using simulator::ProgramPrice;

constexpr std::size_t kMostSlices = 400'000;

struct PricedProgram {
  Program program;
  ProgramPrice price;
  std::int64_t times = 1;
};

std::vector<PricedProgram> programs_of(const Plan& plan, const simulator::Simulator& simulator) {
  std::vector<PricedProgram> programs;
  const auto add = [&](Program program, std::int64_t times) {
    ProgramPrice price = simulator.price(program, plan);
    programs.push_back({std::move(program), std::move(price), times});
  };
  if (plan.workload.kind == WorkloadKind::Training) {
    add(program::build_train_step(plan, Rank(0), {.first = true}), 1);
    if (plan.accumulation > 1) {
      add(program::build_train_step(plan, Rank(0), {.first = false}), plan.accumulation - 1);
    }
    add(program::build_update(plan, Rank(0)), 1);
  } else {
    add(program::build_generate(plan, Rank(0), program::decode_shape(plan)), 1);
  }
  return programs;
}

// How much of each communication runs while something is computed, by task.
std::vector<double> hidden_times(const Program& program, const simulator::Timeline& timeline) {
  std::vector<double> hidden(program.operations.size(), 0);
  std::vector<simulator::Slice> compute;
  for (const simulator::Slice& slice : timeline.slices) {
    if (!program.operations[slice.task].group.valid()) compute.push_back(slice);
  }
  const auto by_start = [](const simulator::Slice& a, const simulator::Slice& b) {
    return a.start_us < b.start_us;
  };
  std::sort(compute.begin(), compute.end(), by_start);
  for (const simulator::Slice& slice : timeline.slices) {
    if (!program.operations[slice.task].group.valid()) continue;
    auto at = std::lower_bound(compute.begin(), compute.end(), slice, by_start);
    if (at != compute.begin()) --at;
    for (; at != compute.end() && at->start_us < slice.end_us(); ++at) {
      hidden[slice.task] += std::max(
          0.0, std::min(at->end_us(), slice.end_us()) - std::max(at->start_us, slice.start_us));
    }
  }
  return hidden;
}

void add_parts(const PricedProgram& priced, std::vector<OperationPart>& parts) {
  std::map<std::pair<int, int>, std::size_t> known;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    known[{parts[i].layer, static_cast<int>(parts[i].kind)}] = i;
  }
  const std::vector<double> hidden = hidden_times(priced.program, priced.price.timeline);
  const auto times = static_cast<double>(priced.times);
  for (std::size_t i = 0; i < priced.program.operations.size(); ++i) {
    const program::Operation& operation = priced.program.operations[i];
    const simulator::Cost& cost = priced.price.costs[i];
    const planner::OperationClass kind = planner::class_of(operation);
    const auto [found, added] =
        known.emplace(std::pair(operation.layer, static_cast<int>(kind)), parts.size());
    if (added) parts.push_back({.layer = operation.layer, .kind = kind});
    OperationPart& part = parts[found->second];
    part.hidden_us += times * hidden[i];
    part.exposed_us += times * std::max(0.0, cost.time_us - hidden[i]);
    part.by_source_us[static_cast<int>(cost.source)] += times * cost.time_us;
  }
}

// Lays programs one after another on two streams.
class TrackBuilder {
 public:
  TrackBuilder(Timing& timing, bool measured) : timing_(timing), measured_(measured) {
    const QString title = measured ? "measured" : "predicted";
    tracks_[0] = {.title = title + " · compute", .measured = measured};
    tracks_[1] = {.title = title + " · exchange", .measured = measured};
  }

  void add(const Program& program, const simulator::Timeline& timeline, std::int64_t times) {
    std::vector<bool> critical(program.operations.size(), false);
    for (const int task : timeline.critical_path) critical[task] = true;
    for (std::int64_t i = 0; i < times; ++i) {
      if (count_ + timeline.slices.size() > kMostSlices) {
        left_out_ += times - i;
        return;
      }
      count_ += timeline.slices.size();
      for (const simulator::Slice& slice : timeline.slices) {
        const program::Operation& operation = program.operations[slice.task];
        tracks_[static_cast<int>(operation.stream)].slices.push_back(
            {.start_us = offset_us_ + slice.start_us,
             .duration_us = slice.duration_us,
             .name = name_of(operation.name),
             .layer = operation.layer,
             .kind = static_cast<std::uint8_t>(planner::class_of(operation)),
             .pass = operation.pass,
             .critical = critical[slice.task]});
      }
      offset_us_ += timeline.makespan_us;
    }
  }

  void finish() {
    for (Track& track : tracks_) {
      std::sort(track.slices.begin(), track.slices.end(),
                [](const Slice& a, const Slice& b) { return a.start_us < b.start_us; });
      if (!track.slices.empty()) timing_.tracks.push_back(std::move(track));
    }
    timing_.end_us = std::max(timing_.end_us, offset_us_);
    if (left_out_ > 0) {
      timing_.note += QString("%1 of the micro-batches are not drawn. ").arg(left_out_);
    }
  }

 private:
  int name_of(const char* name) {
    const auto [found, added] = names_.emplace(name, count_of(timing_.names));
    if (added) timing_.names.push_back(QString(name).replace('_', ' '));
    return found->second;
  }

  Timing& timing_;
  bool measured_;
  Track tracks_[2];
  std::unordered_map<std::string, int> names_;
  std::size_t count_ = 0;
  std::int64_t left_out_ = 0;
  double offset_us_ = 0;
};

// The same program with the median times of a run; operations that the run does not name keep
// their predicted time.
simulator::Timeline measured_timeline(const PricedProgram& priced, const RunReport& report,
                                      bool overlap) {
  std::map<std::pair<std::string, std::string>, double> medians;
  for (const OperationTime& row : report.operations) {
    if (row.count > 0) {
      medians[{row.operation, row.pass}] = row.measured_us / static_cast<double>(row.count);
    }
  }
  std::vector<simulator::Cost> costs = priced.price.costs;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const program::Operation& operation = priced.program.operations[i];
    const auto found =
        medians.find({operation.name, std::string(program::pass_name(operation.pass))});
    if (found != medians.end()) costs[i].time_us = found->second;
  }
  return simulator::schedule(simulator::task_graph(priced.program, costs, overlap));
}

Timing timing_of(const std::vector<PricedProgram>& programs, const std::optional<RunReport>& report,
                 bool overlap) {
  Timing timing;
  const auto order = [&](auto visit) {
    for (const PricedProgram& priced : programs) visit(priced);
  };
  TrackBuilder predicted(timing, false);
  order([&](const PricedProgram& p) { predicted.add(p.program, p.price.timeline, p.times); });
  predicted.finish();
  if (!report || report->operations.empty()) return timing;
  TrackBuilder measured(timing, true);
  order([&](const PricedProgram& p) {
    measured.add(p.program, measured_timeline(p, *report, overlap), p.times);
  });
  measured.finish();
  timing.note += "Measured: median time of each operation in the run, in the predicted order.";
  return timing;
}

}  // namespace

Detail examine(const Plan& plan, const Prices& prices, const std::optional<RunReport>& report,
               const Stop& stop) {
  Detail detail{.plan = plan, .hash = plan_hash(plan)};
  const simulator::Simulator simulator(*prices.simulator);
  detail.prices = prices.text;
  detail.limit_bytes = planner::rank_memory_bytes(prices.cluster, plan.world);
  const planner::RankedPlan ranked =
      planner::measure_memory(plan, detail.limit_bytes, prices.cluster.device.libraries);
  detail.memory = ranked.memory;
  detail.fullest = ranked.fullest.value;
  detail.verdict = ranked.verdict;
  if (stop.requested()) return detail;
  const Prediction& stored = plan.predicted;
  if (stored.time_us.value > 0 && stored.profile_hash != simulator.profile_hash()) {
    detail.warning =
        QString("The plan was made with %1; shown here: %2.")
            .arg(stored.profile.empty() ? "no profile (roofline)" : "profile " + qt(stored.profile),
                 prices.text);
  }
  detail.anatomy = planner::anatomy(plan, simulator);
  detail.plan.predicted = simulator.predict(plan);
  detail.plan.predicted.memory_bytes = detail.memory.total();
  if (stop.requested()) return detail;
  const std::vector<PricedProgram> programs = programs_of(plan, simulator);
  for (const PricedProgram& priced : programs) add_parts(priced, detail.parts);
  detail.timing = timing_of(programs, report, prices.cluster.overlap);
  detail.report = report;
  return detail;
}

}  // namespace imhotep::gui
