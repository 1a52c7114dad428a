#pragma once
// A profile while it is measured. After every probe all that is known lies in FILE.partial, so an
// interruption loses one probe; at the end it becomes FILE. A later run with `resume` goes on from
// whichever is there.

#include <string>
#include <vector>

#include "profiles/profile.h"

namespace imhotep::cli {

class CalibrationFile {
 public:
  // `frame`: everything but measurements: name, device, machine, method, versions.
  // Throws: Error(Input) with `resume` when the file was measured on another device or with other
  // libraries: both do not belong into one profile.
  CalibrationFile(std::string file, profiles::Profile frame, bool resume);

  [[nodiscard]] const std::vector<std::string>& known() const { return earlier_.probes; }
  [[nodiscard]] const std::string& file() const { return file_; }
  // Date, frame, what an earlier run left, and this.
  [[nodiscard]] profiles::Profile whole(const profiles::Profile& measured) const;
  void keep(const profiles::Profile& measured) const;
  profiles::Profile finish(const profiles::Profile& measured) const;
  [[nodiscard]] std::string partial() const { return file_ + ".partial"; }

 private:
  std::string file_;
  profiles::Profile frame_, earlier_;
};

}  // namespace imhotep::cli
