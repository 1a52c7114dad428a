#include "simulator/refit.h"

#include <algorithm>
#include <map>

#include "core/base/fail.h"
#include "profiles/merge.h"
#include "simulator/loaded_program.h"
#include "simulator/step_programs.h"

namespace imhotep::simulator {
namespace {

using Row = std::pair<std::string, std::string>;  // operation, pass

// What one shape of an operation is expected to take, and how often it occurs in a step.
struct Share {
  profiles::Description operation;
  LoadedOperation loaded;
  double time_us = 0;
};

class Refitter {
 public:
  Refitter(const Simulator& simulator, const RunReport& report, double noisiest)
      : simulator_(simulator), report_(report), noisiest_(noisiest) {}

  Refit run(const profiles::Profile& profile) {
    gather();
    Refit result{.profile = profile};
    for (const OperationTime& row : report_.operations) {
      const auto found = shares_.find({row.operation, row.pass});
      if (row.operation == "unaccounted") {
        correct_overhead(row, result.profile.overheads);
      } else if (found == shares_.end() || row.measured_us <= 0 || row.spread > noisiest_) {
        ++result.left_out;
      } else {
        add_points(row, found->second);
      }
    }
    profiles::merge_tables(result.profile.tables, tables_);
    profiles::merge_collectives(result.profile.collectives, collectives_);
    result.points = points_;
    result.profile.notes.push_back(fmt::format(
        "{} points from the report of {} on {}, {} ({} steps of {})", points_, report_.date,
        report_.machine, report_.phase, report_.steps, report_.plan.model.name));
    return result;
  }

 private:
  void gather() {
    for (const StepProgram& one : step_programs(report_.plan, report_.phase)) {
      const auto loaded = loaded_operations(one.program, report_.plan);
      for (std::size_t i = 0; i < loaded.size(); ++i) {
        const program::Operation& operation = one.program.operations[i];
        const Cost cost = simulator_.price(loaded[i].shape, loaded[i].dtype, loaded[i].layout,
                                           busy_ranks(report_.plan));
        const Row row(operation.name, program::pass_name(operation.pass));
        shares_[row].push_back({.operation = profiles::describe(loaded[i].shape),
                                .loaded = loaded[i],
                                .time_us = cost.time_us});
        predicted_us_[row] += one.times * cost.time_us;
        operations_ += one.times;
      }
    }
  }

  void add_points(const OperationTime& row, const std::vector<Share>& shares) {
    const double predicted = predicted_us_[{row.operation, row.pass}];
    if (predicted <= 0) return;  // groups of one: nothing moves
    for (const Share& share : shares) {
      const double time_us = share.time_us * row.measured_us / predicted;
      if (share.operation.communication) {
        add_collective(share, time_us, row.spread);
      } else {
        add_point(share, time_us, row.spread);
      }
    }
  }

  // Different names may have one shape (two products of a block): its time is their mean.
  void add_point(const Share& share, double time_us, double spread) {
    const profiles::FamilyInfo& family = profiles::family_of(share.operation.family);
    profiles::Table table{.family = std::string(family.name),
                          .variant = std::string(profiles::variant_text(share.operation)),
                          .dtype = share.loaded.dtype,
                          .ranks = busy_ranks(report_.plan)};
    for (const char* key : family.keys) table.keys.emplace_back(key);
    const auto& key = share.operation.key;
    const std::vector<double> numbers(key.begin(), key.begin() + share.operation.keys);
    auto& seen =
        seen_[{share.operation.family, share.operation.variant, share.loaded.dtype, numbers}];
    seen.first += time_us;
    seen.second += 1;
    if (seen.second == 1) ++points_;
    table.points = {{.key = numbers,
                     .time_us = seen.first / seen.second,
                     .spread = spread,
                     .samples = report_.steps}};
    profiles::merge_tables(tables_, {table});
  }

  void add_collective(const Share& share, double time_us, double spread) {
    const GroupLayout& layout = share.loaded.layout;
    if (layout.size < 2) return;
    const double bytes =
        profiles::collective_bytes(share.operation, share.loaded.dtype, layout.size);
    if (bytes <= 0) return;
    ++points_;
    profiles::merge_collectives(
        collectives_, {{.kind = profiles::collective_kind(share.operation),
                        .group_size = layout.size,
                        .nodes = layout.nodes,
                        .points = {{.bytes = bytes, .time_us = time_us, .spread = spread}}}});
  }

  void correct_overhead(const OperationTime& row, profiles::Overheads& overheads) const {
    overheads.step_us = std::max(0.0, row.measured_us - overheads.operation_us * operations_);
  }

  const Simulator& simulator_;
  const RunReport& report_;
  double noisiest_;
  std::map<Row, std::vector<Share>> shares_;
  std::map<Row, double> predicted_us_;
  double operations_ = 0;
  using Shape = std::tuple<std::uint8_t, std::uint8_t, Dtype, std::vector<double>>;
  std::map<Shape, std::pair<double, double>> seen_;  // sum of times, how many
  std::vector<profiles::Table> tables_;
  std::vector<profiles::CollectiveTable> collectives_;
  std::size_t points_ = 0;
};

}  // namespace

Refit refit(const profiles::Profile& profile, const Simulator& simulator, const RunReport& report,
            double noisiest) {
  if (report.measured_us <= 0 || report.operations.empty()) {
    fail_input("the report holds no measured operations");
  }
  const std::string& device = simulator.cluster().device.name;
  if (device != profile.device.name) {
    fail_input("the report was made on \"{}\", the profile on \"{}\"", device, profile.device.name);
  }
  return Refitter(simulator, report, noisiest).run(profile);
}

}  // namespace imhotep::simulator
