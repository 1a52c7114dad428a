#include "executor/comm/bootstrap.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>

#include "executor/comm/mpi_check.h"
#include "executor/comm/watchdog.h"

namespace imhotep::executor {

struct Bootstrap::Mpi {
  MPI_Comm world = MPI_COMM_NULL;  // a duplicate: its messages meet no others
  MPI_Comm node = MPI_COMM_NULL;   // the ranks of this machine
  MPI_Win window = MPI_WIN_NULL;   // a flag and the watchdog's table, shared by these ranks
  std::atomic<int>* spoken = nullptr;
  WatchRow* rows = nullptr;
  int node_rank = 0, node_size = 1;
  std::vector<int> node_ranks;  // their numbers in the world
  std::unique_ptr<Watchdog> watchdog;
};

namespace {

constexpr std::int64_t kLargestMessage = std::int64_t{1} << 30;

bool is_set(const char* name) { return std::getenv(name) != nullptr; }

std::string launcher() {
  if (is_set("OMPI_COMM_WORLD_RANK")) return "mpirun";
  return is_set("SLURM_PROCID") ? "srun" : "a PMI launcher";
}

// "Open MPI v4.1.4, package: Debian OpenMPI, ..." -> "Open MPI 4.1.4"
std::string library_name() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string name(text, static_cast<std::size_t>(length));
  name = name.substr(0, name.find_first_of(",\n"));
  const auto version = name.find(" v");
  if (version != std::string::npos) name.erase(version + 1, 1);
  return name;
}

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

bool Bootstrap::launched() {
  return is_set("OMPI_COMM_WORLD_RANK") || is_set("PMIX_RANK") || is_set("PMI_RANK");
}

Bootstrap::Bootstrap() : exceptions_(std::uncaught_exceptions()) {
  if (!launched()) return;
  sigset_t set;  // the watchdog alone takes SIGTERM; threads that MPI makes inherit this
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  const double patience_s = watch_patience_s();
  int provided = 0;
  mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  mpi_ = std::make_unique<Mpi>();
  mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &mpi_->world), "MPI_Comm_dup");
  MPI_Comm_rank(mpi_->world, &rank_);
  MPI_Comm_size(mpi_->world, &world_);
  mpi_check(
      MPI_Comm_split_type(mpi_->world, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &mpi_->node),
      "MPI_Comm_split_type");
  share_table();
  watch(patience_s);
}

// Collective.
void Bootstrap::share_table() {
  MPI_Comm_rank(mpi_->node, &mpi_->node_rank);
  MPI_Comm_size(mpi_->node, &mpi_->node_size);
  const int leader = mpi_->node_rank == 0 ? 1 : 0;
  mpi_check(MPI_Allreduce(&leader, &nodes_, 1, MPI_INT, MPI_SUM, mpi_->world), "MPI_Allreduce");
  mpi_->node_ranks.resize(mpi_->node_size);
  mpi_check(MPI_Allgather(&rank_, 1, MPI_INT, mpi_->node_ranks.data(), 1, MPI_INT, mpi_->node),
            "MPI_Allgather");
  void* base = nullptr;
  constexpr MPI_Aint kFlagBytes = 64;
  const MPI_Aint table = kFlagBytes + mpi_->node_size * MPI_Aint{sizeof(WatchRow)};
  mpi_check(MPI_Win_allocate_shared(leader == 1 ? table : 0, 1, MPI_INFO_NULL, mpi_->node, &base,
                                    &mpi_->window),
            "MPI_Win_allocate_shared");
  MPI_Aint size = 0;
  int unit = 0;
  mpi_check(MPI_Win_shared_query(mpi_->window, 0, &size, &unit, &base), "MPI_Win_shared_query");
  if (leader == 1) {
    std::memset(base, 0, static_cast<std::size_t>(table));
    new (base) std::atomic<int>(0);
  }
  mpi_->spoken = static_cast<std::atomic<int>*>(base);
  mpi_->rows = reinterpret_cast<WatchRow*>(static_cast<char*>(base) + kFlagBytes);
  mpi_check(MPI_Barrier(mpi_->node), "barrier");  // empty before anybody enters
}

void Bootstrap::watch(double patience_s) {
  const auto alarm = [this](bool died, const std::string& message) {
    if (mpi_->spoken->exchange(1) == 0) write_all(fmt::format("imhotep: {}\n", message));
    // A launcher that has seen the death itself ends us, with the cause as its exit code.
    if (died) ::sleep(3);
    MPI_Abort(MPI_COMM_WORLD, 1);
    std::_Exit(1);
  };
  mpi_->watchdog = std::make_unique<Watchdog>(mpi_->rows, mpi_->node_ranks.data(), mpi_->node_size,
                                              mpi_->node_rank, patience_s, alarm);
  barrier();
}

Bootstrap::~Bootstrap() {
  if (!mpi_ || std::uncaught_exceptions() > exceptions_) return;
  mpi_->watchdog.reset();
  MPI_Win_free(&mpi_->window);
  MPI_Comm_free(&mpi_->node);
  MPI_Comm_free(&mpi_->world);
  MPI_Finalize();
}

std::string Bootstrap::describe() const {
  if (!mpi_) return "one process, without MPI";
  return fmt::format("{}, {} rank{} on {} node{}, started by {}", library_name(), world_,
                     world_ == 1 ? "" : "s", nodes_, nodes_ == 1 ? "" : "s", launcher());
}

void Bootstrap::at(int layer, std::string_view operation, bool waits) const {
  if (mpi_) mpi_->rows[mpi_->node_rank].put(layer, waits, operation);
}

void Bootstrap::barrier() const {
  if (!mpi_) return;
  const Waiting waiting(*this, "barrier");
  mpi_check(MPI_Barrier(mpi_->world), "barrier");
}

void Bootstrap::broadcast(void* data, std::int64_t bytes, int root) const {
  if (!mpi_) return;
  const Waiting waiting(*this, "broadcast");
  auto* at = static_cast<char*>(data);
  for (std::int64_t done = 0; done < bytes; done += kLargestMessage) {
    const auto count = static_cast<int>(std::min(kLargestMessage, bytes - done));
    mpi_check(MPI_Bcast(at + done, count, MPI_BYTE, root, mpi_->world), "broadcast");
  }
}

void Bootstrap::broadcast(std::string& text, int root) const {
  auto bytes = static_cast<std::int64_t>(text.size());
  broadcast(&bytes, sizeof bytes, root);
  text.resize(static_cast<std::size_t>(bytes));
  broadcast(text.data(), bytes, root);
}

std::vector<std::string> Bootstrap::gather(const std::string& text) const {
  if (!mpi_) return {text};
  const Waiting waiting(*this, "gather");
  const auto own = static_cast<int>(text.size());
  std::vector<int> sizes(rank_ == 0 ? world_ : 0), begins(sizes.size());
  mpi_check(MPI_Gather(&own, 1, MPI_INT, sizes.data(), 1, MPI_INT, 0, mpi_->world), "gather");
  std::exclusive_scan(sizes.begin(), sizes.end(), begins.begin(), 0);
  std::string all(rank_ == 0 ? begins.back() + sizes.back() : 0, '\0');
  mpi_check(MPI_Gatherv(text.data(), own, MPI_CHAR, all.data(), sizes.data(), begins.data(),
                        MPI_CHAR, 0, mpi_->world),
            "gather");
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < sizes.size(); ++r) texts.push_back(all.substr(begins[r], sizes[r]));
  return texts;
}

bool Bootstrap::all_true(bool value) const {
  int all = value ? 1 : 0;
  if (mpi_) {
    const Waiting waiting(*this, "all_true");
    mpi_check(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, mpi_->world), "all_true");
  }
  return all == 1;
}

double Bootstrap::largest(double value) const {
  if (mpi_) {
    const Waiting waiting(*this, "largest");
    mpi_check(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_DOUBLE, MPI_MAX, mpi_->world), "largest");
  }
  return value;
}

void Bootstrap::abort(int code, const std::string& message) const {
  if (!mpi_) {
    write_all(fmt::format("imhotep: {}\n", message));
    std::_Exit(code);
  }
  if (mpi_->spoken->exchange(1) == 0) {
    write_all(fmt::format("imhotep: rank {}: {}\n", rank_, message));
  } else {
    ::sleep(5);  // whoever spoke first is ending all of us, with its code
  }
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace imhotep::executor
