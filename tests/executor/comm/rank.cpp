// What launch_test.cpp starts on several ranks: comm_rank WAY [FILE].

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "core/base/error.h"
#include "executor/comm/bootstrap.h"
#include "executor/comm/communicator_pool.h"
#include "executor/comm/stop_signal.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

// Until somebody asks to stop: what a training loop does between steps.
int wait_for_stop(const Bootstrap& ranks, const std::string& folder) {
  watch_stop_signals();
  ranks.barrier();
  std::ofstream(folder + "/ready." + std::to_string(ranks.rank())) << ::getpid() << std::flush;
  while (ranks.all_true(stop_signal() == 0)) ::usleep(2000);
  while (stop_signal() == 0) ::usleep(2000);  // the first to be told may be another rank
  const int signal = stop_signal();
  ::usleep(300'000);  // longer than it takes mpirun to kill a rank
  std::ofstream(folder + "/saved." + std::to_string(ranks.rank())) << signal;
  ranks.barrier();
  return stop_exit_code(signal);
}

// Hears that it should stop, says so, and goes on.
[[noreturn]] void go_on(const Bootstrap& ranks, const std::string& folder) {
  watch_stop_signals();
  ranks.barrier();
  std::ofstream(folder + "/ready." + std::to_string(ranks.rank())) << ::getpid() << std::flush;
  for (bool told = false;; ranks.barrier()) {
    if (told || stop_signal() == 0) continue;
    told = true;
    std::ofstream(folder + "/told." + std::to_string(ranks.rank())) << stop_signal() << std::flush;
  }
}

// Rank 1 works, so that the others wait for it: for two seconds, or for ever.
int wait_for_one(const Bootstrap& ranks, bool for_ever, const std::string& folder) {
  Plan plan;
  plan.world = plan.data = ranks.world();
  CommunicatorPool pool(ranks);
  pool.prepare(plan);
  Communicator& all = pool.get(world_group(plan));
  ranks.barrier();
  std::ofstream(folder + "/ready." + std::to_string(ranks.rank())) << ::getpid() << std::flush;
  if (ranks.rank() == 1) {
    ranks.at(3, "experts_up", false);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (for_ever || std::chrono::steady_clock::now() < end) {
    }
  }
  ranks.at(3, "combine", true);
  all.barrier();
  return 0;
}

int work(const Bootstrap& ranks, const std::string& way, const std::string& folder) {
  if (way == "describe" && ranks.rank() == 0)
    std::fprintf(stderr, "%s\n", ranks.describe().c_str());
  if (way == "all-fail") raise(ErrorKind::Input, "the plan is damaged");
  if (way == "one-fails" && ranks.rank() == 2) raise(ErrorKind::Missing, "no text");
  if (way == "segfault" && ranks.rank() == 1) std::raise(SIGSEGV);
  if (way == "wait") return wait_for_stop(ranks, folder);
  if (way == "one-works") return wait_for_one(ranks, false, folder);
  if (way == "one-works-on") return wait_for_one(ranks, true, folder);
  if (way == "spin") go_on(ranks, folder);
  ranks.barrier();
  return way == "code" ? 4 : 0;
}

int as_rank(const std::string& way, const std::string& folder) {
  const Bootstrap ranks;
  try {
    return work(ranks, way, folder);
  } catch (const Error& error) {
    ranks.abort(static_cast<int>(error.kind()), error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return as_rank(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "");
  } catch (const Error& error) {  // the ranks did not find together
    std::fprintf(stderr, "imhotep: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
}
