#pragma once
// A profile: what was measured on a machine. Tables of points per kernel family, variant and
// dtype; collectives per kind and group; fixed costs. Format: docs/formats/profile.md.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/fields.h"
#include "core/spec/cluster.h"

namespace imhotep::profiles {

struct Point {
  std::vector<double> key;
  double time_us = 0;  // median
  double spread = 0;   // interquartile range / median
  std::int64_t samples = 1;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("key", s.key, {.help = "numbers, in the order of the table's keys"});
    visit("time_us", s.time_us, {.help = "median; null: no valid reading"});
    visit("spread", s.spread, {.help = "interquartile range / median", .optional = true});
    visit("samples", s.samples, {.help = "readings behind the median", .optional = true});
  }
};

struct Table {
  std::string family, variant;
  Dtype dtype = Dtype::F32;
  int ranks = 0;                  // busy on the node while measuring; 0: as the profile says
  std::vector<std::string> keys;  // names, as profiles/families*.h lists them
  std::vector<Point> points;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("family", s.family, {.help = "kernel family: gemm"});
    visit("variant", s.variant, {.help = "options: nt bias_gelu", .optional = true});
    visit("dtype", s.dtype, {.help = "element type"});
    visit("ranks", s.ranks,
          {.help = "busy ranks of the node; 0: the profile's", .optional = true, .minimum = 0});
    visit("keys", s.keys, {.help = "names of the key's numbers"});
    visit("points", s.points, {.help = "measurements"});
  }
};

struct CollectivePoint {
  double bytes = 0;  // as profiles::collective_bytes counts them
  double time_us = 0;
  double spread = 0;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("bytes", s.bytes, {.help = "size, counted as docs/formats/profile.md says"});
    visit("time_us", s.time_us, {.help = "median; null: no valid reading"});
    visit("spread", s.spread, {.help = "interquartile range / median", .optional = true});
  }
};

struct CollectiveTable {
  std::string kind;  // "all_reduce", "exchange_rows flat"
  int group_size = 2;
  int nodes = 1;
  std::vector<CollectivePoint> points;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("kind", s.kind, {.help = "all_reduce, exchange_rows flat, ..."});
    visit("group_size", s.group_size, {.help = "ranks of the group", .minimum = 1});
    visit("nodes", s.nodes, {.help = "nodes they sit on", .optional = true, .minimum = 1});
    visit("points", s.points, {.help = "measurements"});
  }
};

struct Overheads {
  double operation_us = 0;  // between two operations of a program
  double step_us = 0;       // once a step: launch, data, logging

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("operation_us", s.operation_us,
          {.help = "between two operations", .optional = true, .minimum = 0});
    visit("step_us", s.step_us, {.help = "once a step", .optional = true, .minimum = 0});
  }
};

struct Profile {
  std::string name;
  DeviceSpec device;    // the device that was measured, with the rates its roofline uses
  std::string machine;  // host, processor, operating system
  std::string date;     // ISO 8601 UTC
  std::string method;
  std::string
      kernels;  // whose were timed; empty: ours. Others' are a transfer, never a measurement
  std::map<std::string, std::string> versions;
  int ranks = 1;  // of a node, busy while measuring
  std::vector<Table> tables;
  std::vector<CollectiveTable> collectives;
  Overheads overheads;
  std::vector<std::string> probes;  // what calibration has walked; `--resume` leaves them out
  std::vector<std::string> notes;   // what went wrong while measuring, and what was refused

  std::string hash;                  // of the content; set by the reader
  std::vector<std::string> skipped;  // rows the reader refused, each with its reason

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("name", s.name, {.help = "of the cluster it describes, or any other"});
    visit("device", s.device, {.help = "what was measured"});
    visit("machine", s.machine, {.help = "host and processor", .optional = true});
    visit("date", s.date, {.help = "ISO 8601 UTC"});
    visit("method", s.method, {.help = "how it was measured, or where it comes from"});
    visit("kernels", s.kernels, {.help = "whose were timed; empty: ours", .optional = true});
    visit("versions", s.versions, {.help = "driver, libraries, program", .optional = true});
    visit("ranks", s.ranks, {.help = "busy ranks of the node", .optional = true, .minimum = 1});
    visit("tables", s.tables, {.help = "kernel families"});
    visit("collectives", s.collectives, {.help = "communication", .optional = true});
    visit("overheads", s.overheads, {.help = "fixed costs", .optional = true});
    visit("probes", s.probes, {.help = "what calibration has walked", .optional = true});
    visit("notes", s.notes, {.help = "refused or doubtful while measuring", .optional = true});
  }
};

inline constexpr const char* kProfileSchema = "imhotep.profile/1";

// Rows that cannot be true are skipped and named in Profile::skipped: times that are not positive
// and finite, keys that do not fit the family, and rows of one key whose times differ by more than
// 5x (all of them: none can be trusted). Closer rows of one key become one, their geometric mean.
// Throws: Error(Input) with file, line and path for anything that is not this format.
[[nodiscard]] Profile read_profile(const std::string& file);
[[nodiscard]] Profile parse_profile(const std::string& text, const std::string& name);
// Sets Profile::hash. Creates the folder of `file`.
void write_profile(Profile& profile, const std::string& file);
[[nodiscard]] std::string profile_text(const Profile& profile);
[[nodiscard]] std::string profile_hash(const Profile& profile);

// Folders searched, the user's first: $IMHOTEP_PROFILES (several: separated by ':'),
// $XDG_DATA_HOME or ~/.local/share, then imhotep/profiles; the shipped profiles/measured.
[[nodiscard]] std::vector<std::string> profile_folders();
[[nodiscard]] std::string user_profile_folder();  // where `calibrate` writes
[[nodiscard]] std::vector<std::string> profile_files();

// The profile named like the cluster, else one of its device; among equals the first folder and
// the latest date. By name alone when the cluster's device has no name. Where others' kernels were
// timed for this name and ours on the same device elsewhere, ours with the collectives of that
// name. Throws: Error(Input) on a file in these folders that is no profile.
[[nodiscard]] std::optional<Profile> find_profile(const ClusterSpec& cluster);
[[nodiscard]] std::optional<Profile> find_profile(const std::string& name);

}  // namespace imhotep::profiles
