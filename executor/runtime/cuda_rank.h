#pragma once
// What a runner holds of its GPU: a stream, library handles, events, and a graph of each program
// that can be replayed. One a rank; the device is the thread's current one.

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/program/program.h"
#include "executor/comm/overflow.h"
#include "executor/runtime/memory.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {

class CudaRank {
 public:
  CudaRank(const Memory& memory, std::size_t programs);
  ~CudaRank();
  CudaRank(const CudaRank&) = delete;
  CudaRank& operator=(const CudaRank&) = delete;

  // A queue for kernels called beside programs (initial weights). Async.
  [[nodiscard]] kernels::Queue queue(Dtype dtype) const;
  void wait() const;
  // Where kernels of a layer report faults; -1: of none.
  [[nodiscard]] kernels::FaultRecord* fault_of(int layer) const;
  // Rows beyond a bound that the last run found; the rank is for the caller.
  [[nodiscard]] std::optional<Overflow> take_overflow() {
    return std::exchange(overflow_, std::nullopt);
  }

  // Runs one program: inputs to the device, `walk`, results back, and waits. `walk` lists the
  // operations in order and calls `before` and `after` around each. With `replay` the second and
  // later runs are one graph, which is captured from `walk` the first time.
  // Throws: Failed for what a kernel found wrong, naming no operation (nothing waits for each); but
  // not for rows beyond a bound.
  using Step = std::function<void(const program::Operation& operation)>;
  using Walk = std::function<void(const kernels::Queue& queue, const Step& after)>;
  void run(std::size_t program, Dtype dtype, bool replay, const Walk& walk);
  // Times of replays of one graph of `walk`, which is captured anew.
  struct Repeats {
    int repeats = 30;
    bool cold = true;  // overwrite the second-level cache before each
    int copies = 1;    // of the walk in a graph; the time is of one
  };
  [[nodiscard]] std::vector<double> replay_us(Dtype dtype, const Repeats& how, const Walk& walk);
  // run() with an event after every operation: what lies between two events is an operation's
  // time. With `replay` the events are part of the graph, so that no operation waits for the host.
  using Observer = std::function<void(const program::Operation& operation, double time_us)>;
  void run_observed(std::size_t program, Dtype dtype, bool replay, const Walk& walk,
                    const Observer& observer);

 private:
  void begin();
  void finish();
  void note_fault(int layer, const kernels::FaultRecord& record);
  void* event(std::size_t index);
  bool capture_observed(std::size_t program, Dtype dtype, const Walk& walk);

  const kernels::CudaApi& api_;
  int device_;
  const Memory& memory_;
  void *stream_, *context_;
  struct Replay {
    bool warm = false;  // caches of algorithms are filled
    void* graph = nullptr;
    void* observed = nullptr;  // a graph with events
    std::vector<void*> events;
    std::vector<const program::Operation*> operations;
  };
  Replay& replay_of(std::size_t program);

  std::vector<Replay> replays_;
  std::vector<void*> events_;
  std::optional<Overflow> overflow_;
  bool events_in_graphs_ = true;  // until a capture with events fails
};

// Device memory that a rank may still use. Throws: Missing without a device.
[[nodiscard]] std::int64_t free_device_memory_bytes();

}  // namespace imhotep::executor
