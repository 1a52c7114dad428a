#pragma once
// A cluster: devices, how many a node, how nodes and devices are linked, what an hour costs.

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/enum_names.h"
#include "core/base/fields.h"

namespace imhotep {

enum class DeviceKind : std::uint8_t { Cpu, Cuda };

// Memory that libraries keep on a GPU, the context not counted. Measured, not known to documents.
struct LibraryBytes {
  std::int64_t join_bytes = 0;     // NCCL in a process of several ranks
  std::int64_t channel_bytes = 0;  // NCCL's buffers for each group that it carries something for

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("join_bytes", s.join_bytes,
          {.help = "NCCL in a process of several ranks", .optional = true, .minimum = 0});
    visit("channel_bytes", s.channel_bytes,
          {.help = "NCCL's buffers for each group that it carries something for",
           .optional = true,
           .minimum = 0});
  }
};

struct DeviceSpec {
  std::string name;
  DeviceKind kind = DeviceKind::Cuda;
  std::int64_t memory_bytes = 0;
  double memory_bytes_per_us = 0;  // read bandwidth; 1 GB/s = 1000
  double fp32_flops_per_us = 0;    // dense peak; 1 TFLOPS = 10^6
  double bf16_flops_per_us = 0;
  double launch_us = 0;  // fixed cost of one operation
  double watts = 0;
  LibraryBytes libraries;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("name", s.name, {.help = "as the vendor writes it"});
    visit("kind", s.kind, {.help = "cpu or cuda"});
    visit("memory_bytes", s.memory_bytes, {.help = "usable memory of one device", .minimum = 1});
    visit("memory_bytes_per_us", s.memory_bytes_per_us,
          {.help = "memory bandwidth, peak; 1 GB/s = 1000", .minimum = 1e-3});
    visit("fp32_flops_per_us", s.fp32_flops_per_us,
          {.help = "fp32 peak; 1 TFLOPS = 1e6", .minimum = 1e-3});
    visit("bf16_flops_per_us", s.bf16_flops_per_us,
          {.help = "bf16 dense peak; 1 TFLOPS = 1e6", .minimum = 1e-3});
    visit("launch_us", s.launch_us,
          {.help = "fixed cost of one operation", .optional = true, .minimum = 0});
    visit("watts", s.watts, {.help = "board power", .optional = true, .minimum = 0});
    visit("libraries", s.libraries, {.help = "memory that libraries keep", .optional = true});
  }
};

// One level of the network. A message of `bytes` takes latency_us + bytes / bandwidth.
struct LinkSpec {
  std::string name;
  double latency_us = 0;
  double bytes_per_us = 0;  // one way and per device
  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("name", s.name, {.help = "NVLink 4, HDR InfiniBand, shared memory"});
    visit("latency_us", s.latency_us, {.help = "of one message", .minimum = 0});
    visit("bytes_per_us", s.bytes_per_us,
          {.help = "reached one way, per device; 1 GB/s = 1000", .minimum = 1e-3});
  }
};

struct ClusterSpec {
  std::string name;
  DeviceSpec device;
  int devices_per_node = 1;
  int nodes = 1;
  LinkSpec intra, inter;  // within a node, between nodes
  bool overlap = true;    // communication can run beside computation
  double price_per_device_hour = 0;
  std::string currency = "USD";
  std::string source;  // where the figures come from

  [[nodiscard]] int devices() const { return devices_per_node * nodes; }

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("name", s.name, {.help = "catalogue name"});
    visit("device", s.device, {.help = "one device"});
    visit("devices_per_node", s.devices_per_node, {.help = "devices a node", .minimum = 1});
    visit("nodes", s.nodes, {.help = "nodes", .minimum = 1, .maximum = 1 << 20});
    visit("intra", s.intra, {.help = "link between devices of a node"});
    visit("inter", s.inter, {.help = "link between nodes"});
    visit("overlap", s.overlap, {.help = "communication beside computation", .optional = true});
    visit("price_per_device_hour", s.price_per_device_hour,
          {.help = "0: unknown", .optional = true, .minimum = 0});
    visit("currency", s.currency, {.help = "of the price", .optional = true});
    visit("source", s.source, {.help = "origin of the figures", .optional = true});
  }
};

inline constexpr const char* kClusterSchema = "imhotep.cluster/1";

[[nodiscard]] ClusterSpec read_cluster(const std::string& file);  // Throws: Error(Input)
void write_cluster(const ClusterSpec& cluster, const std::string& file);

// This machine's processor cores as devices (one rank a core), its memory shared among them.
// Peak rates are what the instruction set allows at the present clock: a roofline, not a
// measurement; `imhotep calibrate` measures.
[[nodiscard]] ClusterSpec detect_local_cluster();

}  // namespace imhotep

IMHOTEP_ENUM_NAMES(imhotep::DeviceKind, {imhotep::DeviceKind::Cpu, "cpu"},
                   {imhotep::DeviceKind::Cuda, "cuda"})
