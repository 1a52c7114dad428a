#include "executor/runtime/step_times.h"

#include <doctest/doctest.h>

namespace imhotep::executor {
namespace {

program::Operation operation(const char* name, program::Pass pass) {
  return {.name = name, .shape = Fill{1}, .pass = pass};
}

}  // namespace

TEST_CASE("the median and the spread of few values are those of the textbook") {
  CHECK(median({}) == 0);
  CHECK(median({7}) == 7);
  CHECK(median({9, 1}) == 5);
  CHECK(median({5, 1, 100}) == 5);
  CHECK(relative_spread({}) == 0);
  CHECK(relative_spread({3}) == 0);
  CHECK(relative_spread({0, 0}) == 0);
  CHECK(relative_spread({4, 1, 2, 3, 5}) == doctest::Approx(2.0 / 3));  // (4 - 2) / 3
}

TEST_CASE("durations are summed by operation and pass, and their median over steps is told") {
  const auto up = operation("experts_up", program::Pass::Forward);
  const auto again = operation("experts_up", program::Pass::Recompute);
  const auto down = operation("experts_down", program::Pass::Forward);
  StepTimes times;
  for (const double scale : {1.0, 3.0, 2.0}) {
    times.add(up, 10 * scale);
    times.add(down, 5 * scale);
    times.add(up, 20 * scale);
    times.add(again, 4 * scale);
    times.end_step(50 * scale);
  }
  CHECK(times.steps() == 3);
  CHECK(times.step_us() == 100);
  CHECK(times.spread() == doctest::Approx(0.5));
  const auto rows = times.operations();
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].operation == "experts_up");
  CHECK(rows[0].pass == "forward");
  CHECK(rows[0].count == 2);
  CHECK(rows[0].measured_us == 60);
  CHECK(rows[1].operation == "experts_down");
  CHECK(rows[1].count == 1);
  CHECK(rows[1].measured_us == 10);
  CHECK(rows[2].pass == "recompute");
  CHECK(rows[2].measured_us == 8);
  CHECK(rows[3].operation == "unaccounted");
  CHECK(rows[3].measured_us == 22);
}

TEST_CASE("a step that is dropped leaves nothing in medians and counts") {
  const auto up = operation("experts_up", program::Pass::Forward);
  StepTimes times;
  times.add(up, 10);
  times.end_step(20);
  times.add(up, 1000);
  times.add(up, 1000);
  times.drop_step();
  times.add(up, 12);
  times.end_step(24);
  CHECK(times.steps() == 2);
  CHECK(times.step_us() == 22);
  const auto rows = times.operations();
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].count == 1);
  CHECK(rows[0].measured_us == 11);
  CHECK(rows[1].measured_us == 11);  // between operations
}

TEST_CASE("what has not been measured is reported as nothing") {
  const StepTimes times;
  CHECK(times.steps() == 0);
  CHECK(times.step_us() == 0);
  const auto rows = times.operations();
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].measured_us == 0);
}

}  // namespace imhotep::executor
