// imhotep profiles: what has been measured, and where it lies.

#include <cstdio>

#include "cli/commands.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "profiles/profile.h"

namespace imhotep::cli {
namespace {

struct Entry {
  std::string file;
  profiles::Profile profile;
  std::string problem;  // why it could not be read
};

std::vector<Entry> all_profiles() {
  std::vector<Entry> entries;
  for (const std::string& file : profiles::profile_files()) {
    Entry entry{.file = file};
    try {
      entry.profile = profiles::read_profile(file);
    } catch (const Error& error) {
      entry.problem = error.what();
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::size_t points_of(const profiles::Profile& profile) {
  std::size_t points = 0;
  for (const auto& table : profile.tables) points += table.points.size();
  for (const auto& table : profile.collectives) points += table.points.size();
  return points;
}

Json json_of_entry(const Entry& entry) {
  const profiles::Profile& profile = entry.profile;
  Json out = {{"file", entry.file}};
  if (!entry.problem.empty()) {
    out["problem"] = entry.problem;
    return out;
  }
  out["name"] = profile.name;
  out["device"] = profile.device.name;
  out["machine"] = profile.machine;
  out["date"] = profile.date;
  out["method"] = profile.method;
  out["ranks"] = profile.ranks;
  out["tables"] = profile.tables.size();
  out["collectives"] = profile.collectives.size();
  out["points"] = points_of(profile);
  out["hash"] = profile.hash;
  out["skipped"] = profile.skipped;
  return out;
}

void print_table(const std::vector<Entry>& entries, bool color) {
  Table table({{"profile"}, {"device"}, {"date"}, {"points", Align::Right}, {"file"}});
  for (const Entry& entry : entries) {
    if (!entry.problem.empty()) {
      std::fprintf(stderr, "imhotep: %s\n", entry.problem.c_str());
      continue;
    }
    table.row({entry.profile.name, entry.profile.device.name, entry.profile.date.substr(0, 10),
               std::to_string(points_of(entry.profile)), entry.file});
  }
  if (table.empty()) {
    std::printf("No profile in %s.\nWithout one, times are rooflines.\n",
                fmt::to_string(fmt::join(profiles::profile_folders(), ", ")).c_str());
    return;
  }
  std::fputs(table.text(0, color).c_str(), stdout);
}

}  // namespace

Run setup_profiles(Arguments& arguments) {
  arguments.example("imhotep profiles");
  return [](const Session& session) {
    const std::vector<Entry> entries = all_profiles();
    if (session.json) {
      Json list = Json::array();
      for (const Entry& entry : entries) list.push_back(json_of_entry(entry));
      std::puts(list.dump(2).c_str());
    } else {
      print_table(entries, session.color);
    }
    return 0;
  };
}

}  // namespace imhotep::cli
