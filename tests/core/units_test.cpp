#include "core/base/units.h"

#include <doctest/doctest.h>

#include "core/base/content_hash.h"
#include "tests/core/failure.h"

namespace imhotep {
namespace {

using test::contains;
using test::failure;

TEST_CASE("numbers are read with decimal and binary suffixes") {
  CHECK(parse_number("8k") == 8000);
  CHECK(parse_number("1.5M") == 1.5e6);
  CHECK(parse_number("40GiB") == 40 * 0x1p30);
  CHECK(parse_number("40GB") == 40e9);
  CHECK(parse_number("2Ti") == 0x1p41);
  CHECK(parse_number("17") == 17);
  CHECK(parse_number("17B") == 17);
  CHECK(parse_integer("128Ki") == 131072);
}

TEST_CASE("what is no number is refused by name") {
  for (const char* text : {"", "k", "8 k", "8kk", "x8", "40gib"}) {
    CHECK(
        contains(failure([&] { (void)parse_number(text); }), "got \"" + std::string(text) + "\""));
  }
  CHECK(contains(failure([] { (void)parse_integer("1.5"); }), "a whole number"));
  CHECK(contains(failure([] { (void)parse_integer("1e300"); }), "a whole number"));
}

TEST_CASE("values that are not finite are refused") {
  for (const char* text : {"nan", "inf", "-inf", "1e999"}) {
    CHECK(contains(failure([&] { (void)parse_number(text); }), "got"));
    CHECK(contains(failure([&] { (void)parse_integer(text); }), "got"));
  }
}

TEST_CASE("times need a unit") {
  CHECK(parse_time_us("300us") == 300);
  CHECK(parse_time_us("2ns") == doctest::Approx(2e-3));
  CHECK(parse_time_us("5ms") == 5e3);
  CHECK(parse_time_us("1h") == 3600e6);
  CHECK(contains(failure([] { (void)parse_time_us("300"); }), "a time such as 300us"));
}

TEST_CASE("quantities are written with three digits or so") {
  CHECK(format_bytes(698e9) == "698 GB");
  CHECK(format_bytes(0) == "0.00 B");
  CHECK(format_time(12800) == "12.8 ms");
  CHECK(format_time(1250) == "1.25 ms");
  CHECK(format_count(31.27e9) == "31.3 B");
  CHECK(format_count(999.6e6) == "1000 M");
}

TEST_CASE("the nearest known word is found, and none where all are far") {
  const std::vector<std::string> known = {"hidden", "heads", "layers"};
  CHECK(nearest("hiden", known) == "hidden");
  CHECK(nearest("layer", known) == "layers");
  CHECK(nearest("haeds", known) == "heads");
  CHECK(nearest("temperature", known).empty());
  CHECK(nearest("x", {}).empty());
}

TEST_CASE("the content hash is FNV-1a") {
  CHECK(content_hash("") == "cbf29ce484222325");
  CHECK(content_hash("a") == "af63dc4c8601ec8c");
  CHECK(content_hash("foobar") == "85944171f73967e8");
}

}  // namespace
}  // namespace imhotep
