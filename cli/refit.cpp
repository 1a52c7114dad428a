#include "cli/refit.h"

#include <cstdio>

#include "cli/local_gpu.h"
#include "cli/prediction.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "simulator/refit.h"

namespace imhotep::cli {
namespace {

struct Learnt {
  std::string file;
  RunReport report;
  double before_us = 0, after_us = 0;
  std::size_t points = 0, left_out = 0;
};

profiles::Profile profile_to_refit(const ClusterSpec& cluster, const std::string& file) {
  if (!file.empty()) return profiles::read_profile(file);
  if (auto found = profiles::find_profile(cluster)) return *found;
  profiles::Profile empty;
  empty.name = cluster.name;
  empty.device = cluster.device;
  empty.method = "reports of runs";
  return empty;
}

void print(const std::vector<Learnt>& all, const std::string& file,
           const profiles::Profile& profile, bool json) {
  Json list = Json::array();
  for (const Learnt& one : all) {
    const double measured = one.report.measured_us;
    const double before = relative_error(one.before_us, measured);
    const double after = relative_error(one.after_us, measured);
    list.push_back({{"report", one.file},
                    {"phase", one.report.phase},
                    {"points", one.points},
                    {"left_out", one.left_out},
                    {"measured_us", measured},
                    {"predicted_before_us", one.before_us},
                    {"predicted_after_us", one.after_us},
                    {"error_before", before},
                    {"error_after", after}});
    if (json) continue;
    fmt::print("{}: {} points from a {} step of {}; predicted {} ({:+.1f} %), now {} ({:+.1f} %)\n",
               one.file, one.points, one.report.phase, format_time(measured),
               format_time(one.before_us), 100 * before, format_time(one.after_us), 100 * after);
  }
  if (json) {
    const Json out = {{"profile", file}, {"hash", profile.hash}, {"reports", std::move(list)}};
    fmt::print("{}\n", out.dump(2));
  } else {
    fmt::print("profile {}\n", file);
  }
}

}  // namespace

int calibrate_from(const std::vector<std::string>& reports, const std::string& profile,
                   const std::string& output, const Session& session) {
  std::vector<Learnt> all;
  for (const std::string& file : reports)
    all.push_back({.file = file, .report = read_report(file)});
  const std::string name = all.front().report.plan.cluster;
  const ClusterSpec cluster = find_cluster(name.empty() ? "local" : name);
  profiles::Profile refitted = profile_to_refit(cluster, profile);
  for (Learnt& one : all) {
    if (one.report.plan.cluster != name) {
      fail_input("{}: a run on {}, the first is on {}; refit one cluster at a time", one.file,
                 one.report.plan.cluster, name);
    }
    const simulator::Simulator simulator(cluster, refitted);
    one.before_us = simulator.step(one.report.plan, one.report.phase).time_us.value;
    simulator::Refit result = simulator::refit(refitted, simulator, one.report);
    refitted = std::move(result.profile);
    one.points = result.points;
    one.left_out = result.left_out;
  }
  refitted.date = utc_now();
  const std::string file =
      output.empty() ? profiles::user_profile_folder() + "/" + refitted.name + ".json" : output;
  profiles::write_profile(refitted, file);
  const simulator::Simulator simulator(cluster, refitted);
  for (Learnt& one : all) {
    one.after_us = simulator.step(one.report.plan, one.report.phase).time_us.value;
  }
  print(all, file, refitted, session.json);
  return 0;
}

}  // namespace imhotep::cli
