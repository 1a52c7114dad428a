// The shipped profiles that scripts/fit-public-tables fits from public tables.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "profiles/catalogue.h"
#include "profiles/description.h"
#include "profiles/profile.h"

using namespace imhotep;
using namespace imhotep::profiles;

namespace {

Profile shipped(const std::string& cluster) {
  return read_profile(
      (std::filesystem::path(data_directory()) / "measured" / (cluster + ".json")).string());
}

double roofline_us(const Work& work, const DeviceSpec& device) {
  return std::max(work.flops / device.bf16_flops_per_us, work.bytes / device.memory_bytes_per_us) +
         device.launch_us;
}

double roofline_us(const Table& table, const Point& point, const DeviceSpec& device) {
  const auto described = description_of(table.family, table.variant, point.key);
  REQUIRE(described.has_value());
  return roofline_us(work_of(*described, Dtype::Bf16), device);
}

}  // namespace

TEST_CASE("fitted profiles are whole, name their origin and describe their cluster's device") {
  for (const char* name : {"azure-nd-a100-v4", "dgx-a100", "dgx-h100"}) {
    CAPTURE(name);
    const Profile profile = shipped(name);
    const DeviceSpec device = find_cluster(name).device;
    CHECK(profile.name == name);
    CHECK(profile.skipped.empty());
    CHECK_FALSE(profile.kernels.empty());
    CHECK(profile.method.find("AIConfigurator") != std::string::npos);
    CHECK(profile.method.find("Apache-2.0") != std::string::npos);
    CHECK(profile.device.name == device.name);
    CHECK(profile.device.memory_bytes_per_us == device.memory_bytes_per_us);
    CHECK(profile.device.bf16_flops_per_us == device.bf16_flops_per_us);
    CHECK(profile.device.launch_us == device.launch_us);
    for (const char* family : {"gemm", "grouped_gemm", "attention", "attention_cached"}) {
      CHECK(std::any_of(profile.tables.begin(), profile.tables.end(),
                        [&](const Table& table) { return table.family == family; }));
    }
    CHECK(profile.collectives.size() >= 15);
  }
}

// The script counts FLOPs and bytes by itself. Between the two memories of one GPU its times scale
// by its rooflines; where ours gives the same scale at every point, both count the same work.
TEST_CASE("the script and the program count the same work for every fitted family") {
  const Profile small = shipped("azure-nd-a100-v4"), large = shipped("dgx-a100");
  REQUIRE(small.tables.size() == large.tables.size());
  double widest = 0;
  for (std::size_t t = 0; t < small.tables.size(); ++t) {
    const Table &a = small.tables[t], &b = large.tables[t];
    REQUIRE(a.points.size() == b.points.size());
    for (std::size_t i = 0; i < a.points.size(); ++i) {
      CAPTURE(a.family);
      REQUIRE(a.points[i].key == b.points[i].key);
      const double scale = a.points[i].time_us / b.points[i].time_us;
      const double ours =
          roofline_us(a, a.points[i], small.device) / roofline_us(b, b.points[i], large.device);
      widest = std::max(widest, ours);
      CHECK(scale == doctest::Approx(ours).epsilon(2e-3));  // times have four digits
    }
  }
  CHECK(widest > 1.25);  // memory-bound points are among them
}

TEST_CASE("no fitted kernel beats its roofline by more than a launch") {
  for (const char* name : {"azure-nd-a100-v4", "dgx-a100", "dgx-h100"}) {
    const Profile profile = shipped(name);
    for (const Table& table : profile.tables) {
      for (const Point& point : table.points) {
        CAPTURE(table.family);
        CAPTURE(point.time_us);
        const double bound = roofline_us(table, point, profile.device) - profile.device.launch_us;
        CHECK(point.time_us > 0.75 * bound);  // small weights stay in the cache
      }
    }
  }
}
