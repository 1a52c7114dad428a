#include "executor/generate/decode_recorder.h"

#include <numeric>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kWarmUp = 2;

double wide_value(const void* data, Dtype wide, std::int64_t i) {
  return wide == Dtype::F64 ? static_cast<const double*>(data)[i]
                            : static_cast<double>(static_cast<const float*>(data)[i]);
}

}  // namespace

DecodeRecorder::DecodeRecorder(Generator& generator, const Plan& plan)
    : generator_(generator), plan_(plan), last_(Clock::now()) {
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    const int experts = plan.model.experts_at(layer);
    if (experts > 0) load_.emplace_back(experts, 0.0);
  }
  observe(true);
  generator_.on_step = [this](int program, auto) { end_step(program); };
}

DecodeRecorder::~DecodeRecorder() {
  generator_.runner().observe({});
  generator_.on_step = {};
}

void DecodeRecorder::observe(bool on) {
  observed_ = on;
  if (!on) return generator_.runner().observe({});
  generator_.runner().observe([this](const program::Operation& operation, double time_us) {
    current_.emplace_back(operation, time_us);
  });
}

void DecodeRecorder::end_step(int program) {
  const Clock::time_point now = Clock::now();
  const std::chrono::duration<double, std::micro> time = now - std::exchange(last_, now);
  if (program != generator_.decode_program() || ++steps_ <= kWarmUp) {
    current_.clear();
    return;
  }
  note_load();
  // A GPU's events cost time: its operations are timed in one step and the clock in the next.
  if (plan_.device == DeviceKind::Cuda && observed_) return observe(false);
  for (const auto& [operation, time_us] : std::exchange(current_, {})) {
    times_.add(operation, time_us);
  }
  times_.end_step(time.count());
  if (!observed_) observe(true);
}

void DecodeRecorder::note_load() {
  const auto* stats = generator_.runner().input<std::byte>("balance_stats");
  if (stats == nullptr) return;
  const Dtype wide = kernels::wide_dtype(plan_.dtype);
  for (auto& layer : load_) {
    const auto experts = static_cast<std::int64_t>(layer.size());
    for (std::int64_t e = 0; e < experts; ++e) layer[e] += wide_value(stats, wide, e);
    stats += 2 * experts * bytes_of(wide);
  }
}

RunReport DecodeRecorder::report() const {
  if (times_.steps() == 0) {
    fail("a report needs at least {} tokens after the first; try a larger --max-tokens",
         kWarmUp + 1);
  }
  RunReport report =
      step_report(plan_, "decode", times_, static_cast<double>(plan_.workload.global_batch));
  report.predicted_memory_bytes = generator_.runner().memory().bytes();
  for (const std::vector<double>& layer : load_) {
    const double total = std::accumulate(layer.begin(), layer.end(), 0.0);
    std::vector<double> shares = layer;
    for (double& share : shares) share = total > 0 ? share / total : 0;
    if (total > 0) report.expert_load.push_back(std::move(shares));
  }
  return report;
}

}  // namespace imhotep::executor
