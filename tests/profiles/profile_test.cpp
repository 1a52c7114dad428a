#include "profiles/profile.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/json_fields.h"
#include "core/spec/plan.h"

using namespace imhotep;
using namespace imhotep::profiles;

namespace {

Profile sample_profile(const std::string& name, const std::string& date) {
  Profile profile{.name = name,
                  .device = {.name = "Test device",
                             .kind = DeviceKind::Cpu,
                             .memory_bytes = 1 << 30,
                             .memory_bytes_per_us = 10000,
                             .fp32_flops_per_us = 50000,
                             .bf16_flops_per_us = 50000},
                  .date = date,
                  .method = "invented",
                  .versions = {{"openblas", "0.3"}},
                  .ranks = 2};
  profile.tables.push_back({.family = "gemm",
                            .variant = "nt bias",
                            .keys = {"m", "n", "k"},
                            .points = {{.key = {8, 64, 64}, .time_us = 3, .samples = 9},
                                       {.key = {64, 64, 64}, .time_us = 20, .spread = 0.1}}});
  profile.collectives.push_back({.kind = "all_reduce", .points = {{1024, 5, 0.1}, {4096, 9, 0}}});
  profile.overheads = {.operation_us = 0.2, .step_us = 30};
  return profile;
}

// Replaces the first occurrence; the test's own text must contain it.
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// A folder of its own that disappears with the test.
struct Folder {
  std::filesystem::path path;
  explicit Folder(const char* name)
      : path(std::filesystem::temp_directory_path() /
             (std::string("imhotep_profile_test_") + name + std::to_string(std::rand()))) {
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
};

}  // namespace

TEST_CASE("a profile survives writing and reading, with one hash") {
  const Folder folder("round");
  Profile written = sample_profile("m", "2026-01-01T00:00:00Z");
  const std::string file = folder.path / "deep" / "m.json";
  write_profile(written, file);
  const Profile read = read_profile(file);
  CHECK(read.skipped.empty());
  CHECK(read.hash == written.hash);
  CHECK(profile_text(read) == profile_text(written));
  CHECK(read.versions.at("openblas") == "0.3");
  CHECK(read.tables[0].points[1].time_us == 20);
  written.tables[0].points[0].time_us = 3.5;
  CHECK(profile_hash(written) != read.hash);
}

TEST_CASE("rows of one key that contradict each other are named and skipped") {
  Profile profile = sample_profile("m", "2026");
  profile.tables[0].points.push_back({.key = {8, 64, 64}, .time_us = 16});
  const Profile read = parse_profile(profile_text(profile), "p.json");
  REQUIRE(read.skipped.size() == 1);
  CHECK(read.skipped[0].find("p.json: $.tables[0] gemm nt bias fp32 (8, 64, 64): contradictory") ==
        0);
  REQUIRE(read.tables[0].points.size() == 1);
  CHECK(read.tables[0].points[0].time_us == 20);
}

TEST_CASE("close rows of one key become their geometric mean") {
  Profile profile = sample_profile("m", "2026");
  profile.tables[0].points.push_back({.key = {8, 64, 64}, .time_us = 12});
  const Profile read = parse_profile(profile_text(profile), "p.json");
  CHECK(read.skipped.empty());
  REQUIRE(read.tables[0].points.size() == 2);
  CHECK(read.tables[0].points[0].time_us == doctest::Approx(6));
  CHECK(read.tables[0].points[0].spread == doctest::Approx(0.75));
}

TEST_CASE("times that are no positive number are skipped, the rest stays") {
  const std::string good = profile_text(sample_profile("m", "2026"));
  for (const char* bad :
       {"\"time_us\": null", "\"time_us\": 0", "\"time_us\": -3.0", "\"time_us\": \"nan\""}) {
    CAPTURE(bad);
    const Profile read = parse_profile(replaced(good, "\"time_us\": 20.0", bad), "p.json");
    REQUIRE(read.skipped.size() == 1);
    CHECK(read.skipped[0].find("(64, 64, 64): the time is not a positive number") !=
          std::string::npos);
    CHECK(read.tables[0].points.size() == 1);
  }
  const Profile collective =
      parse_profile(replaced(good, "\"time_us\": 9.0", "\"time_us\": null"), "p.json");
  REQUIRE(collective.skipped.size() == 1);
  CHECK(collective.collectives[0].points.size() == 1);
}

TEST_CASE("rows of a family, variant or key that does not exist are skipped") {
  const std::string good = profile_text(sample_profile("m", "2026"));
  CHECK(parse_profile(replaced(good, "\"gemm\"", "\"germ\""), "p").skipped.size() == 2);
  CHECK(parse_profile(replaced(good, "nt bias", "nt boas"), "p").skipped.size() == 2);
  Profile short_key = sample_profile("m", "2026");
  short_key.tables[0].points[0].key.pop_back();
  const Profile read = parse_profile(profile_text(short_key), "p");
  REQUIRE(read.skipped.size() == 1);
  CHECK(read.skipped[0].find("expected 3 numbers in the key") != std::string::npos);
  CHECK(read.tables[0].points.size() == 1);
}

TEST_CASE("what is no profile is refused with file and path") {
  const std::string good = profile_text(sample_profile("m", "2026"));
  const auto message = [](const std::string& text) -> std::string {
    try {
      (void)parse_profile(text, "p.json");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::Input);
      return error.what();
    }
    return "";
  };
  CHECK(message(replaced(good, "\"method\"", "\"methid\"")).find("p.json") == 0);
  CHECK(message(replaced(good, "imhotep.profile/1", "imhotep.profile/9")).find("$.schema") !=
        std::string::npos);
  CHECK(message(good.substr(0, good.size() / 2)).find("not valid JSON") != std::string::npos);
  CHECK(message("[]").find("expected an object") != std::string::npos);
}

TEST_CASE("the profile of a cluster is found by name, then by device, the user's first") {
  const Folder first("a"), second("b");
  const auto put = [](const Folder& folder, Profile profile, const char* file) {
    write_profile(profile, folder.path / file);
  };
  put(first, sample_profile("other", "2026-01-01"), "1.json");
  put(first, sample_profile("other", "2026-03-01"), "2.json");
  put(second, sample_profile("other", "2026-09-01"), "3.json");
  put(second, sample_profile("mine", "2025-01-01"), "4.json");
  const std::string folders = first.path.string() + ":" + second.path.string();
  setenv("IMHOTEP_PROFILES", folders.c_str(), 1);
  CHECK(user_profile_folder() == first.path.string());
  ClusterSpec cluster{.name = "mine", .device = {.name = "Test device"}};
  CHECK(find_profile(cluster)->name == "mine");
  cluster.name = "unheard of";
  CHECK(find_profile(cluster)->date == "2026-03-01");
  cluster.device.name = "Nobody's device";
  CHECK_FALSE(find_profile(cluster).has_value());
  cluster.name = "mine";
  CHECK_FALSE(find_profile(cluster).has_value());
  CHECK(find_profile("other")->date == "2026-03-01");
  CHECK_FALSE(find_profile("nothing").has_value());
  unsetenv("IMHOTEP_PROFILES");
}

TEST_CASE("a broken file in a profile folder is named, not passed over") {
  const Folder folder("broken");
  write_text_file(folder.path / "bad.json", "{\"schema\": \"imhotep.profile/1\", \"name\": ");
  setenv("IMHOTEP_PROFILES", folder.path.c_str(), 1);
  try {
    (void)find_profile("anything");
    FAIL("a broken profile was accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::Input);
    CHECK(std::string(error.what()).find("bad.json:1") != std::string::npos);
  }
  unsetenv("IMHOTEP_PROFILES");
}

// IMHOTEP_UPDATE_SCHEMAS=1 profile_tests -tc="*schema document*" rewrites the file.
TEST_CASE("the shipped schema document is that of the field list") {
  const std::string file = std::string(IMHOTEP_SOURCE_DIR) + "/docs/schemas/profile.json";
  const std::string current = document_schema_of<Profile>(kProfileSchema).dump(2) + "\n";
  if (std::getenv("IMHOTEP_UPDATE_SCHEMAS") != nullptr) write_text_file(file, current);
  CHECK(read_text_file(file) == current);
}
