#include "executor/comm/bootstrap.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "core/base/fail.h"
#include "executor/comm/rank_link.h"
#include "executor/comm/tcp_world.h"
#include "executor/comm/watchdog.h"

namespace imhotep::executor {

// In memory that the ranks of a machine share: the exit code of whoever spoke first, plus one, and
// the watchdog's table.
struct Bootstrap::Watch {
  std::atomic<int>* spoken = nullptr;
  WatchRow* rows = nullptr;
  int own = 0;  // row of this rank
  std::unique_ptr<Watchdog> dog;

  // 0: this rank speaks, and its code is that of all; else the code of whoever did.
  [[nodiscard]] int speak(int code) const {
    int earlier = 0;
    return spoken->compare_exchange_strong(earlier, code + 1) ? 0 : earlier - 1;
  }
};

namespace {

constexpr std::int64_t kFlagBytes = 64;

void write_all(const std::string& text) {
  std::fflush(nullptr);
  const char* at = text.data();
  for (std::size_t left = text.size(); left > 0;) {
    const ssize_t written = ::write(STDERR_FILENO, at, left);
    if (written <= 0) return;
    at += written;
    left -= static_cast<std::size_t>(written);
  }
}

// In a collective of all ranks, between steps.
class Waiting {
 public:
  Waiting(const Bootstrap& bootstrap, const char* what) : bootstrap_(bootstrap) {
    bootstrap_.at(-1, what, true);
  }
  ~Waiting() { bootstrap_.at(-1, "", false); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  const Bootstrap& bootstrap_;
};

}  // namespace

bool Bootstrap::launched() { return mpi_launched() || tcp_launched(); }

Bootstrap::Bootstrap() : exceptions_(std::uncaught_exceptions()) {
  if (!launched()) return;
  sigset_t set;  // the watchdog alone takes SIGTERM; threads that MPI makes inherit this
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  const double patience_s = watch_patience_s();
  link_ = mpi_launched() ? make_mpi_link() : make_tcp_link();
  rank_ = link_->rank();
  world_ = link_->world();
  nodes_ = link_->nodes();
  watch(patience_s);
}

void Bootstrap::watch(double patience_s) {
  const std::vector<int>& ranks = link_->node_ranks();
  const auto count = static_cast<int>(ranks.size());
  auto* base =
      static_cast<char*>(link_->share(kFlagBytes + count * std::int64_t{sizeof(WatchRow)}));
  watch_ = std::make_unique<Watch>();
  watch_->spoken = reinterpret_cast<std::atomic<int>*>(base);
  watch_->rows = reinterpret_cast<WatchRow*>(base + kFlagBytes);
  while (ranks[watch_->own] != rank_) ++watch_->own;
  const auto alarm = [this](bool died, const std::string& message) {
    const int earlier = watch_->speak(1);
    if (earlier == 0) write_all(fmt::format("imhotep: {}\n", message));
    // Whoever spoke is ending us; a launcher that has seen the death itself does so, too, with the
    // cause as its exit code.
    if (earlier != 0 || (died && mpi_launched())) ::sleep(mpi_launched() ? 3 : 1);
    link_->end(earlier != 0 ? earlier : 1);
  };
  watch_->dog =
      std::make_unique<Watchdog>(watch_->rows, ranks.data(), count, watch_->own, patience_s, alarm);
  barrier();
}

Bootstrap::~Bootstrap() {
  if (!link_ || std::uncaught_exceptions() > exceptions_) return;
  watch_->dog.reset();
  link_->finish();
}

std::string Bootstrap::describe() const {
  return link_ ? link_->describe() : "one process, without MPI";
}

void Bootstrap::at(int layer, std::string_view operation, bool waits) const {
  if (watch_) watch_->rows[watch_->own].put(layer, waits, operation);
}

void Bootstrap::barrier() const {
  if (!link_) return;
  const Waiting waiting(*this, "barrier");
  link_->barrier();
}

void Bootstrap::broadcast(void* data, std::int64_t bytes, int root) const {
  if (!link_) return;
  const Waiting waiting(*this, "broadcast");
  link_->broadcast(data, bytes, root);
}

void Bootstrap::broadcast(std::string& text, int root) const {
  auto bytes = static_cast<std::int64_t>(text.size());
  broadcast(&bytes, sizeof bytes, root);
  text.resize(static_cast<std::size_t>(bytes));
  broadcast(text.data(), bytes, root);
}

std::vector<std::string> Bootstrap::gather(const std::string& text) const {
  if (!link_) return {text};
  const Waiting waiting(*this, "gather");
  return link_->gather(text);
}

bool Bootstrap::all_true(bool value) const {
  if (!link_) return value;
  const Waiting waiting(*this, "all_true");
  return link_->largest(value ? 0 : 1) == 0;
}

double Bootstrap::largest(double value) const {
  if (!link_) return value;
  const Waiting waiting(*this, "largest");
  return link_->largest(value);
}

std::unique_ptr<Communicator> Bootstrap::make_group(const Members& members, int tag) const {
  if (!link_) fail("one process alone makes no group of {}", members.size());
  return link_->make_group(members, tag);
}

void Bootstrap::abort(int code, const std::string& message) const {
  if (!link_) {
    write_all(fmt::format("imhotep: {}\n", message));
    std::_Exit(code);
  }
  const int earlier = watch_->speak(code);
  if (earlier == 0) {
    write_all(fmt::format("imhotep: rank {}: {}\n", rank_, message));
  } else {
    ::sleep(5);  // whoever spoke first is ending all of us, with its code
    code = earlier;
  }
  link_->end(code);
  std::_Exit(code);
}

}  // namespace imhotep::executor
