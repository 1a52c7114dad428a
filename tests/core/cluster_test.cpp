#include "core/spec/cluster.h"

#include <doctest/doctest.h>

#include <limits>

#include "core/spec/local_machine.h"
#include "tests/core/scratch_folder.h"

namespace imhotep {
namespace {

using test::ScratchFolder;

constexpr const char* kInfo =
    "processor\t: 0\nmodel name\t: Fast Core 9000\ncpu MHz\t\t: 2600.000\n\nprocessor\t: 1\n"
    "model name\t: Fast Core 9000\ncpu MHz\t\t: 800.000\n";
constexpr const char* kMemory = "MemTotal:       16000 kB\nMemFree:        8000 kB\n";

void write_machine(const ScratchFolder& root) {
  root.write("proc/cpuinfo", kInfo);
  root.write("proc/meminfo", kMemory);
}

TEST_CASE("a machine is described by what the system says of it") {
  const ScratchFolder root;
  write_machine(root);
  const MachineFacts facts = machine_facts({0, 1}, root.path());
  CHECK(facts.processor == "Fast Core 9000");
  CHECK(facts.cores == 2);
  CHECK(facts.memory_bytes == 16000 * 1024);
  CHECK(facts.clock_mhz == 2600);
}

TEST_CASE("the frequency driver's limit goes before the present clock") {
  const ScratchFolder root;
  write_machine(root);
  root.write("sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "3700000\n");
  CHECK(machine_facts({0, 1}, root.path()).clock_mhz == 3700);
}

TEST_CASE("a present clock that wavers is the same machine") {
  const ScratchFolder root;
  root.write("proc/cpuinfo", "cpu MHz\t\t: 2596.138\n");
  CHECK(machine_facts({0}, root.path()).clock_mhz == 2600);
  root.write("proc/cpuinfo", "cpu MHz\t\t: 2601.402\n");
  CHECK(machine_facts({0}, root.path()).clock_mhz == 2600);
}

TEST_CASE("two threads of a core are one core") {
  const ScratchFolder root;
  write_machine(root);
  const std::string cpu = "sys/devices/system/cpu/cpu";
  for (int i = 0; i < 4; ++i) {
    root.write(cpu + std::to_string(i) + "/topology/thread_siblings_list",
               i % 2 == 0 ? "0,2\n" : "1,3\n");
  }
  CHECK(machine_facts({0, 1, 2, 3}, root.path()).cores == 2);
  CHECK(machine_facts({1, 3}, root.path()).cores == 1);
}

TEST_CASE("limits of the control group and of its parents hold, version 2") {
  const ScratchFolder root;
  write_machine(root);
  root.write("proc/self/cgroup", "0::/pod/box\n");
  root.write("sys/fs/cgroup/pod/memory.max", "4096000\n");
  root.write("sys/fs/cgroup/pod/box/memory.max", "max\n");
  root.write("sys/fs/cgroup/pod/box/cpu.max", "150000 100000\n");
  const MachineFacts facts = machine_facts({0, 1, 2, 3}, root.path());
  CHECK(facts.memory_bytes == 4096000);
  CHECK(facts.cores == 1);
}

TEST_CASE("limits of the control group hold, version 1") {
  const ScratchFolder root;
  write_machine(root);
  root.write("proc/self/cgroup", "5:memory:/box\n3:cpu,cpuacct:/box\n");
  root.write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "5000000\n");
  root.write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "300000\n");
  root.write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
  const MachineFacts facts = machine_facts({0, 1, 2, 3}, root.path());
  CHECK(facts.memory_bytes == 5000000);
  CHECK(facts.cores == 3);
}

TEST_CASE("no limit is no limit: max, -1, and a number larger than the machine") {
  const ScratchFolder root;
  write_machine(root);
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/memory.max", "max\n");
  root.write("sys/fs/cgroup/cpu.max", "max 100000\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  const MachineFacts facts = machine_facts({0, 1}, root.path());
  CHECK(facts.memory_bytes == 16000 * 1024);
  CHECK(facts.cores == 2);
}

TEST_CASE("a system that says nothing leaves the initial values") {
  const ScratchFolder root;
  const MachineFacts facts = machine_facts({0}, root.path());
  CHECK(facts.cores == 1);
  CHECK(facts.memory_bytes == 0);
  CHECK(facts.clock_mhz == 0);
}

TEST_CASE("this machine becomes a cluster that a plan can be made for") {
  const ClusterSpec local = detect_local_cluster();
  CHECK(local.name == "local");
  CHECK(local.nodes == 1);
  CHECK(local.devices() >= 1);
  CHECK(local.devices() <= static_cast<int>(allowed_processors().size()));
  CHECK(local.device.kind == DeviceKind::Cpu);
  CHECK(local.device.memory_bytes > 1'000'000);
  CHECK(local.device.fp32_flops_per_us >= 8 * 100);
  CHECK(local.device.bf16_flops_per_us >= local.device.fp32_flops_per_us);
  CHECK_FALSE(local.overlap);
  const ScratchFolder folder;
  write_cluster(local, folder / "local.json");
  CHECK(read_cluster(folder / "local.json").device.name == local.device.name);
}

}  // namespace
}  // namespace imhotep
