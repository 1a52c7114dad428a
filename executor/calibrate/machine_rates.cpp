#include "executor/calibrate/machine_rates.h"

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/base/random.h"
#include "executor/runtime/memory.h"
#include "executor/runtime/step_times.h"
#include "kernels/gemm.h"
#include "kernels/update.h"

namespace imhotep::executor {
namespace {

using Clock = std::chrono::steady_clock;

template <class Work>
double median_us(int repeats, Work work) {
  std::vector<double> times;
  for (int i = 0; i <= repeats; ++i) {
    const auto start = Clock::now();
    work();
    if (i > 0) {
      times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
  }
  return median(times);
}

double gemm_rate(const kernels::Queue& queue) {
  constexpr std::int64_t kSize = 1024;
  std::vector<float> a(kSize * kSize), b(kSize * kSize), c(kSize * kSize);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(uniform(1, i) - 0.5);
    b[i] = static_cast<float>(uniform(2, i) - 0.5);
  }
  const Gemm shape{.m = kSize, .n = kSize, .k = kSize, .transpose_b = true};
  const double time = median_us(
      15, [&] { kernels::gemm(queue, shape, {.a = a.data(), .b = b.data(), .c = c.data()}); });
  return 2.0 * kSize * kSize * kSize / time;
}

// A sum of squares reads every element once and writes nothing.
double read_rate(const kernels::Queue& queue) {
  const std::int64_t free = available_memory_bytes();
  std::int64_t bytes = std::int64_t{1} << 30;
  while (free > 0 && bytes > free / 2) bytes /= 2;
  const Mapping mapping(bytes);
  const std::int64_t elements = bytes / 4;
  auto* data = reinterpret_cast<float*>(mapping.data());
  for (std::int64_t i = 0; i < elements; ++i) data[i] = static_cast<float>(i & 1023);
  double total = 0;
  const double time = median_us(5, [&] {
    kernels::sum_squares(queue, {.elements = elements}, {.x = data, .total = &total});
  });
  return static_cast<double>(bytes) / time;
}

}  // namespace

std::map<std::string, std::string> library_versions() {
  return {{"openblas", std::string(openblas_get_config())},
          {"openblas_kernels", std::string(openblas_get_corename())},
          {"compiler", __VERSION__}};
}

MachineRates measure_machine_rates() {
  const kernels::Queue queue;
  return {.gemm_flops_per_us = gemm_rate(queue), .read_bytes_per_us = read_rate(queue)};
}

}  // namespace imhotep::executor
