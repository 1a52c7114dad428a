#pragma once
// What a runner holds of its GPU: its streams, library handles, and a graph of each program that
// can be replayed. One a rank; the device is the thread's current one.

#include <functional>
#include <memory>
#include <vector>

#include "core/program/program.h"
#include "executor/runtime/cuda_marks.h"
#include "executor/runtime/memory.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {

class CudaRank {
 public:
  // programs: outlive the object, which remembers the order of their streams.
  CudaRank(const Memory& memory, const std::vector<program::Program>& programs);
  ~CudaRank();
  CudaRank(const CudaRank&) = delete;
  CudaRank& operator=(const CudaRank&) = delete;

  // A queue for kernels called beside programs (initial weights). Async.
  [[nodiscard]] kernels::Queue queue(Dtype dtype) const;
  void wait() const { streams_.wait(); }
  [[nodiscard]] bool one_stream() const { return streams_.one(); }
  void keep_to_one_stream() { streams_.keep_to_one(); }
  // Called while the host waits for the device and may find out what that is at.
  using Place = std::function<void(const program::Operation& operation)>;
  void report_place(Place place) { place_ = std::move(place); }
  // The stream that communication is enqueued on during a walk.
  [[nodiscard]] const CudaLane& lane() const { return streams_.lane(); }

  // Enqueues an operation of a program on the queue that it is given.
  using Enqueue = std::function<void(const program::Operation& operation, const kernels::Queue&)>;
  using Step = std::function<void(const program::Operation& operation)>;
  // Runs one program: inputs to the device, every operation in order, results back, and waits.
  // `after` may be empty. With `replay` the second and later runs are one graph, which is captured
  // the first time.
  // Throws: Failed for what a kernel found wrong, naming no operation (nothing waits for each).
  void run(std::size_t program, bool replay, const Enqueue& enqueue, const Step& after = {});
  // Times of replays of one graph of the program, which is captured anew.
  struct Repeats {
    int repeats = 30;
    bool cold = true;  // overwrite the second-level cache before each
    int copies = 1;    // of the program in a graph; the time is of one
  };
  [[nodiscard]] std::vector<double> replay_us(std::size_t program, const Repeats& how,
                                              const Enqueue& enqueue);
  // run() with events between the operations. With `replay` the events are part of the graph, so
  // that no operation waits for the host. Returns the time in which both streams were at work.
  double run_observed(std::size_t program, bool replay, const Enqueue& enqueue,
                      const CudaMarks::Observer& observer);

 private:
  void begin();
  // walked: the program whose operations were enqueued one by one; null: a graph.
  void finish(const program::Program* walked);
  void wait_watched(const program::Program& walked);
  void walk(std::size_t program, const Enqueue& enqueue, const Step& before, const Step& after);
  void walk_marked(std::size_t program, const Enqueue& enqueue, CudaMarks& marks);
  bool capture_observed(std::size_t program, const Enqueue& enqueue);

  const kernels::CudaApi& api_;
  int device_;
  const Memory& memory_;
  CudaStreams streams_;
  void* context_;
  struct Replay {
    const program::Program* program;
    StreamOrder order;
    bool warm = false;  // caches of algorithms are filled
    void* graph = nullptr;
    void* observed = nullptr;  // a graph with events
    std::unique_ptr<CudaMarks> marks;
  };
  std::vector<Replay> replays_;
  CudaMarks marks_;               // of walks that no graph holds
  void *start_, *end_;            // of replays that are timed
  bool events_in_graphs_ = true;  // until a capture with events fails
  Place place_;
};

// Device memory that a rank may still use. Throws: Missing without a device.
[[nodiscard]] std::int64_t free_device_memory_bytes();

}  // namespace imhotep::executor
