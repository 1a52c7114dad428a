#pragma once
// What the operating system says about this machine: enough for a first, roofline-only cluster.

#include <cstdint>
#include <string>
#include <vector>

namespace imhotep {

struct MachineFacts {
  std::string processor = "unknown processor";
  int cores = 1;                  // physical cores this process may use, within its CPU quota
  std::int64_t memory_bytes = 0;  // of the machine, or of the control group where that is less
  double clock_mhz = 0;           // highest the driver allows, else the present one to 100 MHz
};

// `processors` are the logical processors this process may run on. `root` is put before every
// path that is read ("/proc/meminfo", "/sys/fs/cgroup/..."), so that tests can bring their own.
// Files that are absent leave their field at its initial value.
[[nodiscard]] MachineFacts machine_facts(const std::vector<int>& processors,
                                         const std::string& root = "");

// From sched_getaffinity; {0} where that fails.
[[nodiscard]] std::vector<int> allowed_processors();

// fp32 operations a core can finish in one clock, by the widest instructions it has.
[[nodiscard]] double fp32_flops_per_cycle();
// bf16 products run twice as wide where the processor has them.
[[nodiscard]] bool has_bf16_instructions();

}  // namespace imhotep
