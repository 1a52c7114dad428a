// Loading: a checkpoint of random weights is written and its pages are dropped from the system's
// cache; then the file alone is read, by as many threads and in pieces of the same size as loading
// does, and after another drop the checkpoint is loaded. The first is the ceiling of the second.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "core/base/fail.h"
#include "core/program/build.h"
#include "executor/bench/bench.h"
#include "executor/train/initialize.h"
#include "executor/train/saved_state.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kPiece = 4 << 20;  // as piece_stream.cpp reads
constexpr int kMostRepeats = 5;           // of a pair of readings

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// A folder of this process, removed at the end.
class Folder {
 public:
  explicit Folder(const std::string& place)
      : path_(fs::path(place.empty() ? fs::temp_directory_path().string() : place) /
              fmt::format("imhotep-bench-load-{}", getpid())) {
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

class OpenFile {
 public:
  explicit OpenFile(const std::string& file)
      : file_(file), descriptor_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) fail("{}: cannot read: {}", file, std::strerror(errno));
  }
  ~OpenFile() { ::close(descriptor_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  // The pages are clean: the checkpoint was written to the disk. A request, not an order.
  void drop() const { ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED); }

  // All of it, by several threads; nothing is kept.
  void read_all(int readers) const {
    const auto bytes = static_cast<std::int64_t>(fs::file_size(file_));
    std::atomic<std::int64_t> next = 0;
    std::atomic<bool> failed = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < readers; ++i) {
      threads.emplace_back([&] {
        std::vector<char> piece(kPiece);
        for (std::int64_t at = next.fetch_add(kPiece); at < bytes; at = next.fetch_add(kPiece)) {
          const std::int64_t end = std::min(at + kPiece, bytes);
          for (std::int64_t done = at; done < end && !failed;) {
            const ssize_t got = ::pread(descriptor_, piece.data(), end - done, done);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) failed = true;
            done += got;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (failed) fail("{}: cannot read all of it", file_);
  }

 private:
  std::string file_;
  int descriptor_;
};

}  // namespace

BenchResult bench_load(const BenchRequest& request, const Bootstrap& bootstrap) {
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  workload.global_batch = workload.prompt = workload.output = 1;
  Plan plan = single_rank_plan(request.model, workload);
  plan.dtype = request.dtype;
  if (request.device == kernels::Device::Cuda) plan.device = DeviceKind::Cuda;
  CommunicatorPool pool(bootstrap);
  Runner runner(plan, Rank(0),
                {program::build_generate(plan, Rank(0), program::decode_shape(plan))}, pool);
  initialize_weights(plan, runner, {.seed = request.seed});
  const Folder folder(request.folder);
  const std::string checkpoint = save_weights(folder.path(), plan, bootstrap, runner);
  const OpenFile file(checkpoint + "/model.safetensors");

  BenchResult result;
  std::vector<double> alone_us;
  const int repeats = std::min(request.repeats, kMostRepeats);
  for (int i = 0; i < repeats; ++i) {
    file.drop();
    auto start = Clock::now();
    file.read_all(usual_readers(1));
    alone_us.push_back(us_since(start));
    file.drop();
    start = Clock::now();
    load_weights(checkpoint, plan, bootstrap, runner);
    result.times_us.push_back(us_since(start));
    if (request.progress) request.progress(i + 1, repeats);
  }
  std::sort(alone_us.begin(), alone_us.end());
  result.bytes = static_cast<double>(fs::file_size(checkpoint + "/model.safetensors"));
  result.ceiling_bytes_per_us = result.bytes / alone_us[alone_us.size() / 2];
  result.memory_bytes = runner.memory().bytes();
  return result;
}

}  // namespace imhotep::executor
