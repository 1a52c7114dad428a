#include "core/spec/local_machine.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

namespace imhotep {
namespace {

std::string first_line(const std::string& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

// The value of the first line "key : value" or "key: value".
std::string value_of(const std::string& file, std::string_view key) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(key)) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::optional<double> number_of(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) return std::nullopt;
  return value;
}

int physical_cores(const std::vector<int>& processors, const std::string& root) {
  std::set<std::string> cores;
  for (const int processor : processors) {
    const std::string siblings =
        first_line(root + "/sys/devices/system/cpu/cpu" + std::to_string(processor) +
                   "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(processor) : siblings);
  }
  return std::max(1, static_cast<int>(cores.size()));
}

// The folders of this process's control group for `controller` and of all its parents: a limit of
// any of them holds. Version 2 has one hierarchy ("0::/path"), version 1 one a controller
// ("4:memory:/path"). Inside a container the path may be the host's; then only the root is there.
std::vector<std::string> group_folders(const std::string& root, std::string_view controller,
                                       bool version2) {
  std::ifstream stream(root + "/proc/self/cgroup");
  std::string path = "/";
  for (std::string line; std::getline(stream, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool wanted = version2
                            ? names == ",,"
                            : names.find("," + std::string(controller) + ",") != std::string::npos;
    if (wanted) path = line.substr(second + 1);
  }
  const std::string top = root + "/sys/fs/cgroup" + (version2 ? "" : "/" + std::string(controller));
  std::vector<std::string> folders;
  while (path.size() > 1) {
    folders.push_back(top + path);
    path.resize(std::max<std::size_t>(1, path.rfind('/')));
  }
  folders.push_back(top);
  return folders;
}

double memory_limit(const std::string& root) {
  double limit = HUGE_VAL;
  const auto take = [&](const std::string& file) {
    if (const auto value = number_of(first_line(file))) limit = std::min(limit, *value);
  };
  for (const auto& folder : group_folders(root, "memory", true)) take(folder + "/memory.max");
  for (const auto& folder : group_folders(root, "memory", false)) {
    take(folder + "/memory.limit_in_bytes");
  }
  return limit;
}

double processor_limit(const std::string& root) {
  double limit = HUGE_VAL;
  const auto take = [&](std::optional<double> quota, std::optional<double> period) {
    if (quota && period && *quota > 0 && *period > 0) limit = std::min(limit, *quota / *period);
  };
  for (const auto& folder : group_folders(root, "cpu", true)) {
    std::istringstream line(first_line(folder + "/cpu.max"));
    std::string quota, period;
    line >> quota >> period;
    take(number_of(quota), number_of(period));
  }
  for (const auto& folder : group_folders(root, "cpu", false)) {
    take(number_of(first_line(folder + "/cpu.cfs_quota_us")),
         number_of(first_line(folder + "/cpu.cfs_period_us")));
  }
  return limit;
}

double clock_mhz(const std::vector<int>& processors, const std::string& root) {
  double fastest_khz = 0;
  for (const int processor : processors) {
    const std::string file = root + "/sys/devices/system/cpu/cpu" + std::to_string(processor) +
                             "/cpufreq/cpuinfo_max_freq";
    fastest_khz = std::max(fastest_khz, number_of(first_line(file)).value_or(0));
  }
  if (fastest_khz > 0) return fastest_khz / 1000;
  // The present clock differs from one reading to the next; the machine does not.
  const double present = number_of(value_of(root + "/proc/cpuinfo", "cpu MHz")).value_or(0);
  return 100 * std::round(present / 100);
}

}  // namespace

MachineFacts machine_facts(const std::vector<int>& processors, const std::string& root) {
  MachineFacts facts;
  if (const auto name = value_of(root + "/proc/cpuinfo", "model name"); !name.empty()) {
    facts.processor = name;
  }
  const double quota = std::max(1.0, processor_limit(root));
  facts.cores = physical_cores(processors, root);
  if (quota < facts.cores) facts.cores = static_cast<int>(quota);
  const double total = 1024 * number_of(value_of(root + "/proc/meminfo", "MemTotal")).value_or(0);
  const double limit = memory_limit(root);
  facts.memory_bytes = static_cast<std::int64_t>(total > 0              ? std::min(total, limit)
                                                 : std::isfinite(limit) ? limit
                                                                        : 0);
  facts.clock_mhz = clock_mhz(processors, root);
  return facts;
}

std::vector<int> allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set)) processors.push_back(i);
    }
  }
  if (processors.empty()) processors.push_back(0);
  return processors;
}

#if defined(__x86_64__)
double fp32_flops_per_cycle() {
  // Two fused multiply-add units of 16 or 8 lanes. Family 19h (Zen 3 and 4) runs 512-bit
  // instructions on 256-bit units.
  const bool halved = __builtin_cpu_is("amdfam19h") != 0;
  if (__builtin_cpu_supports("avx512f") && !halved) return 64;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 32;
  return 8;  // one multiply and one add of four lanes
}
bool has_bf16_instructions() { return __builtin_cpu_supports("avx512bf16") != 0; }
#else
double fp32_flops_per_cycle() { return 16; }  // two fused multiply-add units of four lanes
bool has_bf16_instructions() { return false; }
#endif

}  // namespace imhotep
