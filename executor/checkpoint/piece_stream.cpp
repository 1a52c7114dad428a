#include "executor/checkpoint/piece_stream.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace imhotep::executor {
namespace {

constexpr std::int64_t kBatchBytes = 4 << 20;
constexpr std::size_t kBatchJobs = 256;  // runs of a few KiB: rows of a tensor that is cut
constexpr auto kNews = std::chrono::milliseconds(100);

std::int64_t bytes_of(const ReadJob& job) { return job.range.count * bytes_of(job.dtype); }

// Jobs of at most kBatchBytes each.
std::vector<ReadJob> cut(const std::vector<ReadJob>& jobs) {
  std::vector<ReadJob> parts;
  for (const ReadJob& job : jobs) {
    const std::int64_t size = bytes_of(job.dtype), most = kBatchBytes / size;
    for (std::int64_t done = 0; done < job.range.count; done += most) {
      ReadJob part = job;
      part.range = {job.range.first + done, std::min(most, job.range.count - done)};
      part.target = job.target + done * size;
      parts.push_back(part);
    }
  }
  return parts;
}

// Jobs [first, last) that are read together.
struct Batch {
  std::size_t first = 0, last = 0;
  std::int64_t bytes = 0;
};

std::vector<Batch> batches_of(const std::vector<ReadJob>& jobs) {
  std::vector<Batch> batches;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const std::int64_t bytes = bytes_of(jobs[i]);
    const bool fits = !batches.empty() && batches.back().bytes + bytes <= kBatchBytes &&
                      i - batches.back().first < kBatchJobs;
    if (!fits) batches.push_back({.first = i, .last = i});
    batches.back().last = i + 1;
    batches.back().bytes += bytes;
  }
  return batches;
}

class PieceStream {
 public:
  PieceStream(const std::vector<ReadJob>& jobs, const ReadOptions& options)
      : options_(options), jobs_(cut(jobs)), batches_(batches_of(jobs_)), failed_at_(SIZE_MAX) {
    for (const Batch& batch : batches_) all_bytes_ += batch.bytes;
    if (options.landing == nullptr) return;
    const int buffers = 2 * options.readers;
    std::byte* memory = options.landing->buffers(buffers * kBatchBytes);
    for (int i = 0; i < buffers; ++i) free_.push_back(memory + i * kBatchBytes);
  }

  void run() {
    std::vector<std::thread> readers;
    for (int i = 0; i < options_.readers; ++i) readers.emplace_back([this] { read(); });
    std::exception_ptr refused;
    try {
      hand_on();
    } catch (...) {  // what the landing throws
      refused = std::current_exception();
      const std::lock_guard lock(mutex_);
      failed_at_ = 0;
    }
    changed_.notify_all();
    for (std::thread& reader : readers) reader.join();
    if (refused) std::rethrow_exception(refused);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct Filled {
    std::size_t batch = 0;
    std::byte* buffer = nullptr;
  };

  // The calling thread: delivers what is there and tells how far it is.
  void hand_on() {
    std::unique_lock lock(mutex_);
    while (finished_ < options_.readers || !filled_.empty()) {
      changed_.wait_for(lock, kNews,
                        [&] { return !filled_.empty() || finished_ == options_.readers; });
      std::deque<Filled> now;
      std::swap(now, filled_);
      const std::int64_t done = done_bytes_;
      lock.unlock();
      for (const Filled& one : now) deliver(one);
      if (!now.empty()) options_.landing->settle();
      tell(done);
      lock.lock();
      for (const Filled& one : now) free_.push_back(one.buffer);
      if (!now.empty()) changed_.notify_all();
    }
    lock.unlock();
    if (failed_at_ == SIZE_MAX) tell(all_bytes_);
  }

  void tell(std::int64_t done) const {
    if (options_.progress) options_.progress(done, all_bytes_);
  }

  // Neighbours in the buffer that are neighbours at their target go as one.
  void deliver(const Filled& filled) const {
    const Batch& batch = batches_[filled.batch];
    const std::byte* from = filled.buffer;
    for (std::size_t i = batch.first; i < batch.last;) {
      std::byte* target = jobs_[i].target;
      std::int64_t bytes = 0;
      for (; i < batch.last && jobs_[i].target == target + bytes; ++i) bytes += bytes_of(jobs_[i]);
      options_.landing->deliver(target, from, bytes);
      from += bytes;
    }
  }

  // A reading thread.
  void read() {
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto may_go = [&] {
        return stopped() || options_.landing == nullptr || !free_.empty();
      };
      changed_.wait(lock, may_go);
      if (stopped()) break;
      const std::size_t batch = next_++;
      std::byte* buffer = nullptr;
      if (options_.landing != nullptr) {
        buffer = free_.back();
        free_.pop_back();
      }
      lock.unlock();
      std::exception_ptr failure;
      try {
        read_batch(batches_[batch], buffer);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      note(batch, buffer, failure);
    }
    ++finished_;
    changed_.notify_all();
  }

  [[nodiscard]] bool stopped() const { return next_ >= batches_.size() || failed_at_ < next_; }

  // Batches are handed out in order and finished: the first to fail is always the same one.
  void note(std::size_t batch, std::byte* buffer, const std::exception_ptr& failure) {
    if (failure) {
      if (batch < failed_at_) failed_at_ = batch, failure_ = failure;
    } else {
      done_bytes_ += batches_[batch].bytes;
      if (buffer != nullptr) filled_.push_back({batch, buffer});
    }
    changed_.notify_all();
  }

  void read_batch(const Batch& batch, std::byte* buffer) {
    std::int64_t offset = 0;
    for (std::size_t i = batch.first; i < batch.last; ++i) {
      const ReadJob& job = jobs_[i];
      std::byte* to = buffer != nullptr ? buffer + offset : job.target;
      std::uint64_t sum = 0;
      job.file->read(*job.tensor, job.range, to, job.dtype, job.sum != nullptr ? &sum : nullptr);
      offset += bytes_of(job);
      if (job.sum == nullptr) continue;
      const std::lock_guard lock(sums_);
      *job.sum += sum;
    }
  }

  const ReadOptions& options_;
  std::vector<ReadJob> jobs_;
  std::vector<Batch> batches_;
  std::int64_t all_bytes_ = 0;

  std::mutex mutex_, sums_;
  std::condition_variable changed_;
  std::vector<std::byte*> free_;
  std::deque<Filled> filled_;
  std::size_t next_ = 0, failed_at_;
  int finished_ = 0;
  std::int64_t done_bytes_ = 0;
  std::exception_ptr failure_;
};

}  // namespace

void read_pieces(const std::vector<ReadJob>& jobs, const ReadOptions& options) {
  PieceStream(jobs, options).run();
}

}  // namespace imhotep::executor
