#include "executor/comm/watchdog.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBeatMs = 200;
constexpr double kSlowFactor = 10;  // for a process that is not stopped and yet does not beat
constexpr double kOwnPauseS = 2;    // after a longer one of its own a watcher knows nothing

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

std::uint64_t process_namespace() {
  struct stat facts = {};
  return ::stat("/proc/self/ns/pid", &facts) == 0 ? facts.st_ino : 0;
}

// 'R', 'S', 'T' (stopped), 'Z' (has ended); 0 where the system does not tell.
char state_of(int process) {
  std::array<char, 512> text = {};
  std::FILE* file = std::fopen(fmt::format("/proc/{}/stat", process).c_str(), "re");
  if (file == nullptr) return 0;
  const std::size_t got = std::fread(text.data(), 1, text.size() - 1, file);
  std::fclose(file);
  const char* end = std::strrchr(text.data(), ')');  // of the name, which may hold anything
  return got > 0 && end != nullptr && end[1] == ' ' ? end[2] : '\0';
}

int open_process(int process) {
#ifdef SYS_pidfd_open
  return static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
#else
  return -1;
#endif
}

}  // namespace

std::string place_text(const Whereabouts& where) {
  if (where.operation.empty()) return "between steps";
  return where.layer < 0 ? where.operation
                         : fmt::format("layer {}, {}", where.layer, where.operation);
}

void WatchRow::put(int at_layer, bool in_communication, std::string_view name) {
  version.fetch_add(1, std::memory_order_acq_rel);
  layer = at_layer;
  waits = in_communication ? 1 : 0;
  const std::size_t bytes = std::min<std::size_t>(name.size(), kLongestName);
  std::memcpy(operation, name.data(), bytes);
  operation[bytes] = '\0';
  version.fetch_add(1, std::memory_order_release);
}

Whereabouts WatchRow::where() const {
  Whereabouts where;
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::uint32_t before = version.load(std::memory_order_acquire);
    std::array<char, kLongestName + 1> name;
    std::memcpy(name.data(), operation, name.size());
    name.back() = '\0';
    where = {.layer = layer, .waits = waits != 0, .operation = name.data()};
    std::atomic_thread_fence(std::memory_order_acquire);
    if (before % 2 == 0 && version.load(std::memory_order_relaxed) == before) break;
  }
  return where;
}

class Watchdog::Thread {
 public:
  Thread(WatchRow* rows, const int* ranks, int count, int own, double patience_s, Alarm alarm)
      : rows_(rows), ranks_(ranks), own_(own), patience_s_(patience_s), alarm_(std::move(alarm)) {
    rows_[own_].process_namespace = process_namespace();
    rows_[own_].process = ::getpid();
    for (int i = 0; i < count; ++i) peers_.push_back({.index = i, .beat_at = Clock::now()});
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    signals_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (::pipe(wake_.data()) != 0) fail("pipe: {}", std::strerror(errno));
    thread_ = std::thread([this] { watch(); });
  }
  ~Thread() {
    rows_[own_].leaving = 1;
    stop_ = true;
    const char byte = 0;
    static_cast<void>(::write(wake_[1], &byte, 1) == 1);
    thread_.join();
    for (const Peer& peer : peers_) {
      if (peer.handle >= 0) ::close(peer.handle);
    }
    for (const int end : wake_) ::close(end);
    if (signals_ >= 0) ::close(signals_);
  }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

 private:
  struct Peer {
    int index = 0;
    int handle = -1;  // becomes readable when the process ends
    bool known = false, gone = false;
    std::uint64_t beats = 0;
    Clock::time_point beat_at;
  };

  void watch() {
    Clock::time_point last = Clock::now();
    while (!stop_) {
      rows_[own_].beats.fetch_add(1, std::memory_order_relaxed);
      if (seconds_since(last) > kOwnPauseS) {
        for (Peer& peer : peers_) peer.beat_at = Clock::now();
      }
      last = Clock::now();
      if (patience_s_ > 0 && !raised_) look();
      wait();
    }
  }

  // For the next beat, a death, or SIGTERM.
  void wait() {
    std::vector<pollfd> ready = {{.fd = wake_[0], .events = POLLIN, .revents = 0},
                                 {.fd = signals_, .events = POLLIN, .revents = 0}};
    for (const Peer& peer : peers_) {
      if (peer.handle >= 0 && !peer.gone) {
        ready.push_back({.fd = peer.handle, .events = POLLIN, .revents = 0});
      }
    }
    ::poll(ready.data(), ready.size(), kBeatMs);
    signalfd_siginfo info = {};
    if ((ready[1].revents & POLLIN) != 0 && ::read(signals_, &info, sizeof info) == sizeof info) {
      pass_on_sigterm();
    }
  }

  // A launcher ends all ranks by SIGTERM when one has died. Each says first that it goes because it
  // was told to, so that nobody takes it for the one that died; and says who did.
  void pass_on_sigterm() {
    rows_[own_].leaving = 1;
    if (patience_s_ > 0 && !raised_) look();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    std::raise(SIGTERM);  // ends the process, unless the program has a handler
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
  }

  void look() {
    for (Peer& peer : peers_) {
      if (peer.index == own_ || peer.gone || raised_) continue;
      WatchRow& row = rows_[peer.index];
      if (row.process == 0) continue;
      if (!peer.known) meet(peer, row);
      const bool near = row.process_namespace == rows_[own_].process_namespace;
      if (near && has_ended(peer, row)) {
        peer.gone = true;
        if (row.leaving == 0) say(peer, true);
        continue;
      }
      const std::uint64_t beats = row.beats.load(std::memory_order_relaxed);
      if (beats != peer.beats || row.leaving != 0) {
        peer.beats = beats;
        peer.beat_at = Clock::now();
        continue;
      }
      const double silent_s = seconds_since(peer.beat_at);
      if (silent_s < patience_s_) continue;
      const char state = near ? state_of(row.process) : '\0';
      const bool stopped = state == 'T' || state == 't' || state == '\0';
      if (stopped || silent_s > kSlowFactor * patience_s_) say(peer, false);
    }
  }

  static void meet(Peer& peer, const WatchRow& row) {
    peer.known = true;
    peer.beat_at = Clock::now();
    peer.handle = open_process(row.process);
  }

  [[nodiscard]] static bool has_ended(const Peer& peer, const WatchRow& row) {
    if (peer.handle >= 0) {
      pollfd ready = {.fd = peer.handle, .events = POLLIN, .revents = 0};
      return ::poll(&ready, 1, 0) == 1;
    }
    const char state = state_of(row.process);
    return state == 'Z' || state == 'X' || (::kill(row.process, 0) != 0 && errno == ESRCH);
  }

  // Somebody who waits in a communication names the collective that cannot end.
  void say(const Peer& peer, bool died) {
    raised_ = true;
    int other = own_;
    for (const Peer& one : peers_) {
      if (one.index == peer.index || one.gone) continue;
      if (rows_[one.index].where().waits && !rows_[other].where().waits) other = one.index;
    }
    const Whereabouts theirs = rows_[peer.index].where(), here = rows_[other].where();
    alarm_(died, fmt::format("rank {} {} in {}; rank {} {} {}", ranks_[peer.index],
                             died ? "has died" : "has stopped answering", place_text(theirs),
                             ranks_[other], here.waits ? "waits in" : "was in", place_text(here)));
  }

  WatchRow* rows_;
  const int* ranks_;
  int own_;
  double patience_s_;
  Alarm alarm_;
  std::vector<Peer> peers_;
  std::array<int, 2> wake_ = {-1, -1};
  int signals_ = -1;
  bool raised_ = false;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

Watchdog::Watchdog(WatchRow* rows, const int* ranks, int count, int own, double patience_s,
                   Alarm alarm)
    : thread_(std::make_unique<Thread>(rows, ranks, count, own, patience_s, std::move(alarm))) {}

Watchdog::~Watchdog() = default;

double watch_patience_s() {
  constexpr double kUsual = 6;
  const char* text = std::getenv("IMHOTEP_STALL_SECONDS");
  if (text == nullptr) return kUsual;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (end == text || *end != '\0' || !(seconds >= 0)) {
    fail_input("IMHOTEP_STALL_SECONDS: expected seconds >= 0, got \"{}\"", text);
  }
  return seconds;
}

}  // namespace imhotep::executor
