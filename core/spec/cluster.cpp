#include "core/spec/cluster.h"

#include <algorithm>

#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/spec/local_machine.h"

namespace imhotep {
namespace {

// Guesses that stand until `imhotep calibrate` has measured: what one core of a current server
// reads from memory while the others read too, what a message between processes costs, and a
// clock where the system tells none.
constexpr double kCoreBytesPerUs = 10e3;
constexpr double kSharedMemoryBytesPerUs = 5e3;
constexpr double kSharedMemoryLatencyUs = 1;
constexpr double kOperationUs = 0.5;
constexpr double kDefaultClockMhz = 2000;
constexpr double kDefaultMemoryBytes = 4e9;

}  // namespace

ClusterSpec read_cluster(const std::string& file) {
  return read_document<ClusterSpec>(JsonDocument::read(file), kClusterSchema);
}

void write_cluster(const ClusterSpec& cluster, const std::string& file) {
  write_text_file(file, document_of(cluster, kClusterSchema).dump(2) + "\n");
}

ClusterSpec detect_local_cluster() {
  const MachineFacts facts = machine_facts(allowed_processors());
  const double memory_bytes =
      facts.memory_bytes > 0 ? static_cast<double>(facts.memory_bytes) : kDefaultMemoryBytes;
  const double clock_mhz = facts.clock_mhz > 0 ? facts.clock_mhz : kDefaultClockMhz;
  ClusterSpec cluster;
  cluster.name = "local";
  cluster.device = {.name = facts.processor + " core",
                    .kind = DeviceKind::Cpu,
                    .memory_bytes = static_cast<std::int64_t>(memory_bytes / facts.cores),
                    .memory_bytes_per_us = kCoreBytesPerUs,
                    .fp32_flops_per_us = fp32_flops_per_cycle() * clock_mhz,
                    .launch_us = kOperationUs};
  cluster.device.bf16_flops_per_us =
      cluster.device.fp32_flops_per_us * (has_bf16_instructions() ? 2 : 1);
  cluster.devices_per_node = facts.cores;
  cluster.intra = {.name = "shared memory",
                   .latency_us = kSharedMemoryLatencyUs,
                   .bytes_per_us = kSharedMemoryBytesPerUs};
  cluster.inter = cluster.intra;
  cluster.overlap = false;
  cluster.source = fmt::format(
      "detected: {} cores, {}, {:.0f} fp32 operations a cycle at {:.0f} MHz; memory bandwidth and "
      "links are guesses until calibrated",
      facts.cores, format_bytes(memory_bytes), fp32_flops_per_cycle(), clock_mhz);
  return cluster;
}

}  // namespace imhotep
