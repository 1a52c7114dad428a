#pragma once
// One program of generation, stepped by hand: one token a step of every sequence of this rank but
// the last, which takes no part.

#include <vector>

#include "core/program/build.h"
#include "tests/executor/generate/setup.h"

namespace imhotep::test {

class TokenSteps {
 public:
  TokenSteps(const Plan& plan, Rank rank, program::Program program,
             executor::CommunicatorPool& pool, std::int32_t sequences)
      : dtype_(plan.dtype), sequences_(sequences), runner_(plan, rank, {std::move(program)}, pool) {
    fill_weights(plan, runner_);
    const std::int64_t pages =
        (program::decode_shape(plan).max_context + plan.page_size - 1) / plan.page_size;
    for (std::int64_t i = 0; i < sequences * pages; ++i) {
      runner_.input<std::int32_t>("block_table")[i] = static_cast<std::int32_t>(i);
    }
  }

  void run(std::int32_t step, const std::vector<std::int32_t>& tokens) {
    for (std::int32_t s = 0; s < sequences_; ++s) {
      const bool used = s + 1 < sequences_;
      runner_.input<std::int32_t>("tokens")[s] = used ? tokens[s] : -1;
      runner_.input<std::int32_t>("positions")[s] = used ? step : -1;
      runner_.input<std::int32_t>("used")[s] = used ? 1 : 0;
      runner_.input<std::int32_t>("sequences")[s] = used ? s : 0;
      runner_.input<std::int32_t>("sample_rows")[s] = s;
    }
    runner_.input<std::int32_t>("sample_range")[0] = 0;
    runner_.input<std::int32_t>("sample_range")[1] = sequences_ - 1;
    executor::StepContext context;
    context.sampling.resize(static_cast<std::size_t>(sequences_));
    runner_.run(0, context);
  }

  [[nodiscard]] std::vector<std::int32_t> tokens() const {
    const auto* next = runner_.input<std::int32_t>("next_token");
    return {next, next + sequences_ - 1};
  }

  // Values of the wide type of the plan, as double.
  [[nodiscard]] std::vector<double> wides(const char* name, std::int64_t count) const {
    const auto* data = runner_.input<std::byte>(name);
    std::vector<double> values;
    for (std::int64_t i = 0; i < count; ++i) {
      values.push_back(dtype_ == Dtype::F64
                           ? reinterpret_cast<const double*>(data)[i]
                           : static_cast<double>(reinterpret_cast<const float*>(data)[i]));
    }
    return values;
  }

 private:
  Dtype dtype_;
  std::int32_t sequences_;
  executor::Runner runner_;
};

}  // namespace imhotep::test
