#include "executor/comm/stop_signal.h"

#include <csignal>
#include <initializer_list>

namespace imhotep::executor {
namespace {

volatile std::sig_atomic_t noted = 0;

void note(int signal) {
  if (noted == 0) noted = signal == SIGINT || signal == SIGUSR1 ? SIGINT : SIGTERM;
}

}  // namespace

void watch_stop_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) {
    struct sigaction action = {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    if (signal == SIGINT || signal == SIGTERM) {
      action.sa_flags |= static_cast<int>(SA_RESETHAND);
    }
    sigaction(signal, &action, nullptr);
  }
}

int stop_signal() { return noted; }

}  // namespace imhotep::executor
