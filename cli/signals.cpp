#include "cli/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>

namespace imhotep::cli {
namespace {

// Launchers and `timeout` deliver a signal to the process and to its group: twice within moments.
constexpr std::int64_t kSameSignalMs = 300;

std::atomic<int> received{0};
std::atomic<std::int64_t> first_ms{0};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

std::int64_t now_ms() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

extern "C" void on_signal(int number) {
  int none = 0;
  if (received.compare_exchange_strong(none, number)) {
    first_ms = now_ms();
  } else if (now_ms() - first_ms > kSameSignalMs) {
    _exit(128 + number);
  }
}

}  // namespace

void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int signal_exit_code() {
  const int number = received.load();
  return number == 0 ? 0 : 128 + number;
}

}  // namespace imhotep::cli
