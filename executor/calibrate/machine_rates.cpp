#include "executor/calibrate/machine_rates.h"

#include <cblas.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <fstream>
#include <vector>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "core/base/scratch.h"
#include "executor/runtime/memory.h"
#include "executor/runtime/step_times.h"
#include "kernels/cuda_api.h"
#include "kernels/gemm.h"
#include "kernels/initialize.h"
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

double gemm_rate(const kernels::Queue& queue, std::int64_t size, int repeats) {
  std::vector<float> a(size * size), b(size * size), c(size * size);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(uniform(1, i) - 0.5);
    b[i] = static_cast<float>(uniform(2, i) - 0.5);
  }
  const Gemm shape{.m = size, .n = size, .k = size, .transpose_b = true};
  const double time = median_us(
      repeats, [&] { kernels::gemm(queue, shape, {.a = a.data(), .b = b.data(), .c = c.data()}); });
  const auto n = static_cast<double>(size);
  return 2 * n * n * n / time;
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

// "580.159.04", from the file of NVIDIA's kernel module; empty where there is none.
std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    const bool number = !word.empty() && std::isdigit(static_cast<unsigned char>(word[0])) != 0;
    if (number && word.find('.') != std::string::npos) return word;
  }
  return {};
}

}  // namespace

std::map<std::string, std::string> library_versions() {
  std::map<std::string, std::string> versions = {
      {"openblas", std::string(openblas_get_config())},
      {"openblas_kernels", std::string(openblas_get_corename())},
      {"compiler", __VERSION__}};
  const kernels::CudaApi* api = kernels::find_cuda_api();
  if (api == nullptr || api->device_count() == 0) return versions;
  const kernels::CudaVersions v = api->versions();
  if (const std::string driver = driver_version(); !driver.empty()) versions["driver"] = driver;
  versions["cuda_driver"] = fmt::format("{}.{}", v.driver / 1000, v.driver % 1000 / 10);
  versions["cuda_runtime"] = fmt::format("{}.{}", v.runtime / 1000, v.runtime % 1000 / 10);
  versions["cublas"] = std::to_string(v.cublas);
  versions["cudnn"] = std::to_string(v.cudnn);
  return versions;
}

namespace {

// Device time of `work`, by events around each of several runs; the first does not count.
template <class Work>
double device_median_us(const kernels::Queue& queue, int repeats, Work work) {
  const kernels::CudaApi& api = kernels::cuda_api();
  void *start = api.make_event(), *end = api.make_event();
  std::vector<double> times;
  for (int i = 0; i <= repeats; ++i) {
    api.record(start, queue.stream);
    work();
    api.record(end, queue.stream);
    const double time = api.elapsed_us(start, end);
    if (i > 0) times.push_back(time);
  }
  api.release_event(start);
  api.release_event(end);
  return median(times);
}

// A queue of the current GPU with all that kernels ask for.
struct DeviceQueue {
  DeviceQueue()
      : workspace(CudaBlock::Place::Device, kCudaWorkspaceBytes),
        fault(CudaBlock::Place::Device, sizeof(kernels::FaultRecord)),
        queue{.device = kernels::Device::Cuda,
              .dtype = Dtype::F32,
              .stream = kernels::cuda_api().make_stream(false),
              .context = kernels::cuda_api().make_context(),
              .workspace = workspace.data(),
              .workspace_bytes = workspace.bytes(),
              .fault = reinterpret_cast<kernels::FaultRecord*>(fault.data())} {}
  ~DeviceQueue() {
    kernels::cuda_api().release_context(queue.context);
    kernels::cuda_api().release_stream(queue.stream);
  }
  DeviceQueue(const DeviceQueue&) = delete;
  DeviceQueue& operator=(const DeviceQueue&) = delete;

  CudaBlock workspace, fault;
  kernels::Queue queue;
};

CudaBlock random_block(kernels::Queue queue, std::int64_t elements, std::uint64_t key) {
  CudaBlock block(CudaBlock::Place::Device, elements * bytes_of(queue.dtype));
  kernels::initialize(queue, {.seed = 3, .key = key, .count = elements, .deviation = 1},
                      {.out = block.data()});
  return block;
}

double device_gemm_rate(kernels::Queue queue, Dtype dtype, std::int64_t size) {
  queue.dtype = dtype;
  const CudaBlock a = random_block(queue, size * size, 1), b = random_block(queue, size * size, 2);
  const CudaBlock c(CudaBlock::Place::Device, size * size * bytes_of(dtype));
  const Gemm shape{.m = size, .n = size, .k = size, .transpose_b = true};
  const double time = device_median_us(queue, 10, [&] {
    kernels::gemm(queue, shape, {.a = a.data(), .b = b.data(), .c = c.data()});
  });
  const auto n = static_cast<double>(size);
  return 2 * n * n * n / time;
}

}  // namespace

DeviceRates measure_device_rates() {
  const kernels::CudaApi& api = kernels::cuda_api();
  const DeviceQueue device;
  const kernels::Queue& queue = device.queue;
  DeviceRates rates{.bf16_flops_per_us = device_gemm_rate(queue, Dtype::Bf16, 8192),
                    .fp32_flops_per_us = device_gemm_rate(queue, Dtype::F32, 4096)};
  std::int64_t bytes = std::int64_t{4} << 30;
  while (2 * bytes > api.device(0).free_bytes) bytes /= 2;
  const CudaBlock from = random_block(queue, bytes / 4, 3), to(CudaBlock::Place::Device, bytes);
  const CudaBlock total(CudaBlock::Place::Device, sizeof(double));
  rates.read_bytes_per_us =
      static_cast<double>(bytes) / device_median_us(queue, 10, [&] {
        kernels::sum_squares(queue, {.elements = bytes / 4},
                             {.x = from.data(), .total = reinterpret_cast<double*>(total.data())});
      });
  rates.copy_bytes_per_us = 2 * static_cast<double>(bytes) / device_median_us(queue, 10, [&] {
                              api.copy(to.data(), from.data(), bytes, queue.stream);
                            });
  return rates;
}

double quick_rate(bool gpu) {
  if (!gpu) return gemm_rate(kernels::Queue{}, 512, 9);
  const DeviceQueue device;
  return device_gemm_rate(device.queue, Dtype::Bf16, 4096);
}

MachineRates measure_machine_rates() {
  const kernels::Queue queue;
  return {.gemm_flops_per_us = gemm_rate(queue, 1024, 15), .read_bytes_per_us = read_rate(queue)};
}

}  // namespace imhotep::executor
