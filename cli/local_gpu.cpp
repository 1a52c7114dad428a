#include "cli/local_gpu.h"

#include <array>
#include <string_view>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "executor/runtime/device_check.h"
#include "kernels/cuda_api.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

// Machines of the catalogue whose device this one is, by the driver's name for it: peaks, links and
// the name that profiles go by come from there.
struct Known {
  std::string_view name;
  const char* cluster;
};
constexpr std::array kKnown = {Known{"NVIDIA H100 80GB HBM3", "dgx-h100"},
                               Known{"NVIDIA H200", "dgx-h200"}, Known{"NVIDIA B200", "dgx-b200"},
                               Known{"NVIDIA A100-SXM4-80GB", "dgx-a100"},
                               Known{"NVIDIA A100-SXM4-40GB", "azure-nd-a100-v4"}};
// Boards of the same chip: peaks and links from there, but a name and profiles of their own.
constexpr std::array kAlike = {Known{"H100", "dgx-h100"}, Known{"H200", "dgx-h200"},
                               Known{"B200", "dgx-b200"}, Known{"A100", "dgx-a100"}};

// Peaks of a device that the catalogue does not know, from its clocks. Tensor cores of compute
// capability 8 and later do at least 1024 bf16 and 128 fp32 multiply-adds a cycle and SM.
void rates_from_clocks(const kernels::CudaDevice& device, DeviceSpec& spec) {
  const double cycles_per_us = device.clock_khz / 1e3 * device.multiprocessors;
  spec.bf16_flops_per_us = 2 * 1024 * cycles_per_us;
  spec.fp32_flops_per_us = 2 * 128 * cycles_per_us;
  spec.memory_bytes_per_us = 2.0 * device.memory_clock_khz / 1e3 * device.memory_bus_bits / 8;
  spec.launch_us = 3;
}

}  // namespace

std::optional<ClusterSpec> detect_local_gpus(std::string* why) {
  const kernels::CudaApi* api = kernels::find_cuda_api(why);
  if (api == nullptr) return std::nullopt;
  if (const std::string missing = executor::why_no_device(*api); !missing.empty()) {
    if (why != nullptr) *why = missing;
    return std::nullopt;
  }
  const int devices = api->device_count();
  const kernels::CudaDevice device = api->device(0);
  ClusterSpec cluster;
  const std::string_view name = device.name;
  rates_from_clocks(device, cluster.device);
  for (const Known& alike : kAlike) {
    if (name.find(alike.name) == std::string_view::npos) continue;
    cluster = profiles::find_cluster(alike.cluster);
    cluster.device.name = device.name;
  }
  for (const Known& known : kKnown) {
    if (name == known.name) cluster = profiles::find_cluster(known.cluster);
  }
  cluster.name = kLocalGpu;
  if (cluster.device.name.empty()) cluster.device.name = device.name;
  cluster.device.kind = DeviceKind::Cuda;
  cluster.device.memory_bytes = device.free_bytes;
  cluster.devices_per_node = devices;
  cluster.nodes = 1;
  cluster.source =
      fmt::format("detected: {} x {}, compute capability {}.{}, {} of {} free with a context; {}",
                  devices, device.name, device.compute_major, device.compute_minor,
                  format_bytes(static_cast<double>(device.free_bytes)),
                  format_bytes(static_cast<double>(device.memory_bytes)), cluster.source);
  return cluster;
}

ClusterSpec find_cluster(const std::string& name) {
  if (name != kLocalGpu) return profiles::find_cluster(name);
  std::string why;
  std::optional<ClusterSpec> found = detect_local_gpus(&why);
  if (!found) fail_missing("no GPU can be used here: {}; try --cluster local", why);
  return *found;
}

void declare_device(Arguments& arguments, const std::shared_ptr<DeviceChoice>& choice) {
  arguments.one_of("--device", {"auto", "cpu", "cuda"}, "auto takes a GPU where there is one",
                   [choice](const std::string& text) { choice->device = text; });
  arguments.one_of("--dtype", {"fp32", "bf16"}, "default: bf16 on a GPU, fp32 on a CPU",
                   [choice](const std::string& text) { choice->dtype = text; });
}

void set_device(Plan& plan, const DeviceChoice& choice) {
  std::string why;
  const bool gpu = choice.device != "cpu" && detect_local_gpus(&why).has_value();
  if (choice.device == "cuda" && !gpu) fail_missing("no GPU can be used here: {}", why);
  plan.device = gpu ? DeviceKind::Cuda : DeviceKind::Cpu;
  plan.cluster = gpu ? kLocalGpu : "local";
  plan.dtype = choice.dtype == "bf16" || (gpu && choice.dtype.empty()) ? Dtype::Bf16 : Dtype::F32;
  plan.cluster = gpu ? kLocalGpu : "local";
  plan.prefill_chunk = usual_prefill_chunk(plan.device);
}

std::vector<ClusterSpec> clusters() {
  std::vector<ClusterSpec> all = profiles::clusters();
  if (const auto gpus = detect_local_gpus()) all.push_back(*gpus);
  return all;
}

}  // namespace imhotep::cli
