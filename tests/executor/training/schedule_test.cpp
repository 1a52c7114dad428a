#include "executor/train/schedule.h"

#include <doctest/doctest.h>

namespace imhotep::executor {
namespace {

OptimizerSpec spec_of(std::int64_t warmup, std::int64_t decay) {
  return {
      .learning_rate = 1.0, .min_learning_rate = 0.1, .warmup_steps = warmup, .decay_steps = decay};
}

}  // namespace

TEST_CASE("the learning rate rises in a line, then falls along half a cosine") {
  const OptimizerSpec spec = spec_of(4, 12);
  const double expected[] = {0.25, 0.5, 0.75, 1.0};
  for (int step = 0; step < 4; ++step) {
    CHECK(learning_rate(spec, step, 100) == doctest::Approx(expected[step]));
  }
  CHECK(learning_rate(spec, 7, 100) == doctest::Approx(0.55));  // half way down
  CHECK(learning_rate(spec, 5, 100) == doctest::Approx(0.1 + 0.45 * (1 + std::sqrt(0.5))));
  CHECK(learning_rate(spec, 11, 100) == doctest::Approx(0.1));
  CHECK(learning_rate(spec, 50, 100) == doctest::Approx(0.1));
}

TEST_CASE("the learning rate never rises after the warm-up and never leaves its bounds") {
  for (const std::int64_t warmup : {0, 1, 5, 30}) {
    for (const std::int64_t decay : {0, 1, 10, 20}) {
      const OptimizerSpec spec = spec_of(warmup, decay);
      double before = 1.0;
      for (std::int64_t step = 0; step < 40; ++step) {
        const double rate = learning_rate(spec, step, 25);
        CAPTURE(warmup);
        CAPTURE(decay);
        CAPTURE(step);
        CHECK(rate > 0);
        CHECK(rate <= 1.0);
        if (step >= warmup) {
          CHECK(rate >= 0.1);
          CHECK(rate <= before);
          before = rate;
        }
      }
    }
  }
}

TEST_CASE("without decay steps the rate falls until the end of the run") {
  CHECK(learning_rate(spec_of(2, 0), 9, 10) == doctest::Approx(0.1));
  CHECK(learning_rate(spec_of(2, 0), 9, 20) > 0.5);
  CHECK(learning_rate(spec_of(0, 0), 0, 1) == doctest::Approx(0.1));
}

TEST_CASE("a run shorter than its warm-up only warms up") {
  const OptimizerSpec spec = spec_of(100, 0);
  CHECK(learning_rate(spec, 0, 10) == doctest::Approx(0.01));
  CHECK(learning_rate(spec, 9, 10) == doctest::Approx(0.1));
}

}  // namespace imhotep::executor
