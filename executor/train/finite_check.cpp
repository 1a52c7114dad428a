#include "executor/train/finite_check.h"

#include <cmath>

#include "core/base/fail.h"
#include "executor/train/not_finite.h"

namespace imhotep::executor {
namespace {

std::string last_good(const std::string& checkpoint) {
  if (checkpoint.empty()) return "no checkpoint had been saved";
  return fmt::format("the last checkpoint {} is untouched", checkpoint);
}

// The text of the first rank that has one.
std::string first_text(const Bootstrap& bootstrap, const std::string& own) {
  std::string text;
  for (const std::string& one : bootstrap.gather(own)) {
    if (text.empty()) text = one;
  }
  bootstrap.broadcast(text);
  return text;
}

// NaN has a sign, which differs between machines and says nothing.
std::string number_text(double value) {
  return std::isnan(value) ? "nan" : fmt::format("{}", value);
}

}  // namespace

std::string explain_not_finite(const FailedStep& failed, const BatchSource& batch,
                               const Bootstrap& bootstrap, Trainer& trainer) {
  constexpr double kNever = 1e18, kPlaces = 1e6;
  const auto own = trainer.find_not_finite(failed.step, batch);
  const double place =
      own ? static_cast<double>(own->micro_batch) * kPlaces + static_cast<double>(own->place)
          : kNever;
  const double earliest = -bootstrap.largest(-place);
  const std::string text = first_text(bootstrap, own && place == earliest ? own->text : "");
  std::string message = fmt::format(
      "step {}: the loss is {} and the gradient norm {}: {}; {}; try a lower "
      "learning rate",
      failed.step + 1, number_text(failed.result.loss), number_text(failed.result.gradient_norm),
      text.empty() ? "no operation repeats it" : text, last_good(failed.checkpoint));
  bootstrap.broadcast(message);
  return message;
}

void check_weights_finite(std::int64_t steps, const std::string& checkpoint,
                          const Bootstrap& bootstrap, const Trainer& trainer) {
  const std::string own = weights_not_finite(trainer.runner());
  if (bootstrap.all_true(own.empty())) return;
  fail("step {}: the update left {} not finite; {}; try a lower learning rate", steps,
       first_text(bootstrap, own), last_good(checkpoint));
}

}  // namespace imhotep::executor
