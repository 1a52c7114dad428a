#include "cli/calibration_file.h"

#include <filesystem>

#include "core/base/clock.h"
#include "core/base/fail.h"
#include "profiles/merge.h"

namespace imhotep::cli {
namespace {

void check_same_machine(const std::string& file, const profiles::Profile& earlier,
                        const profiles::Profile& frame) {
  if (earlier.device.name != frame.device.name) {
    fail_input("{}: measured on \"{}\", this is \"{}\"; leave out --resume to measure anew", file,
               earlier.device.name, frame.device.name);
  }
  for (const auto& [name, version] : frame.versions) {
    const auto known = earlier.versions.find(name);
    const std::string before = known == earlier.versions.end() ? "none" : known->second;
    if (before != version) {
      fail_input("{}: measured with {} {}, this is {}; leave out --resume to measure anew", file,
                 name, before, version);
    }
  }
}

}  // namespace

CalibrationFile::CalibrationFile(std::string file, profiles::Profile frame, bool resume)
    : file_(std::move(file)), frame_(std::move(frame)) {
  if (!resume) return;
  for (const std::string& name : {partial(), file_}) {
    if (!std::filesystem::exists(name)) continue;
    earlier_ = profiles::read_profile(name);
    check_same_machine(name, earlier_, frame_);
    return;
  }
}

profiles::Profile CalibrationFile::whole(const profiles::Profile& measured) const {
  profiles::Profile profile = frame_;
  profile.date = utc_now();
  profile.ranks = measured.ranks;
  profile.tables = earlier_.tables;
  profiles::merge_tables(profile.tables, measured.tables);
  profile.collectives = earlier_.collectives;
  profiles::merge_collectives(profile.collectives, measured.collectives);
  profile.overheads = measured.probes.empty() ? earlier_.overheads : measured.overheads;
  profile.probes = earlier_.probes;
  profile.probes.insert(profile.probes.end(), measured.probes.begin(), measured.probes.end());
  profile.notes = measured.notes;
  return profile;
}

void CalibrationFile::keep(const profiles::Profile& measured) const {
  profiles::Profile profile = whole(measured);
  profiles::write_profile(profile, partial());
}

profiles::Profile CalibrationFile::finish(const profiles::Profile& measured) const {
  profiles::Profile profile = whole(measured);
  profiles::write_profile(profile, file_);
  std::error_code ignored;
  std::filesystem::remove(partial(), ignored);
  return profile;
}

}  // namespace imhotep::cli
