#include "profiles/merge.h"

#include <doctest/doctest.h>

using namespace imhotep;
using namespace imhotep::profiles;

namespace {

Table products(int ranks, std::vector<Point> points) {
  return {.family = "gemm",
          .variant = "nt",
          .ranks = ranks,
          .keys = {"m", "n", "k"},
          .points = std::move(points)};
}

}  // namespace

TEST_CASE("later points take the place of earlier ones of their key") {
  std::vector<Table> tables = {
      products(1, {{.key = {8, 8, 8}, .time_us = 1}, {.key = {16, 8, 8}, .time_us = 2}})};
  merge_tables(
      tables, {products(1, {{.key = {4, 8, 8}, .time_us = 0.5}, {.key = {16, 8, 8}, .time_us = 3}}),
               products(2, {{.key = {8, 8, 8}, .time_us = 9}})});
  REQUIRE(tables.size() == 2);
  REQUIRE(tables[0].points.size() == 3);
  CHECK(tables[0].points[0].time_us == 0.5);
  CHECK(tables[0].points[1].time_us == 1);
  CHECK(tables[0].points[2].time_us == 3);
  CHECK(tables[1].ranks == 2);
  CHECK(tables[1].points[0].time_us == 9);
}

TEST_CASE("collectives of another group are tables of their own") {
  std::vector<CollectiveTable> tables = {{.kind = "all_reduce", .points = {{1024, 5, 0}}}};
  merge_collectives(tables, {{.kind = "all_reduce", .points = {{1024, 6, 0}, {512, 4, 0}}},
                             {.kind = "all_reduce", .group_size = 4, .points = {{1024, 7, 0}}}});
  REQUIRE(tables.size() == 2);
  REQUIRE(tables[0].points.size() == 2);
  CHECK(tables[0].points[0].bytes == 512);
  CHECK(tables[0].points[1].time_us == 6);
  CHECK(tables[1].group_size == 4);
}
