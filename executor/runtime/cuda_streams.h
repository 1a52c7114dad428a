#pragma once
// The two streams of a rank's GPU. A walk over a program enqueues every operation on its stream,
// and events join the streams where the program's order needs it (core/program/streams.h). Inside
// a captured graph they become its edges. IMHOTEP_STREAMS=1 puts everything on one stream, to
// compare.

#include <vector>

#include "core/program/program.h"
#include "executor/comm/cuda_communicator.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {

// By operation of a program.
struct StreamOrder {
  std::vector<program::Stream> stream;
  std::vector<int> waits;      // for this operation of the other stream; -1: for nothing new
  std::vector<bool> signals;   // another operation waits for it, or it communicates
  std::vector<int> exchanges;  // the operations that communicate
  bool beside = false;         // some are on the exchange stream
};
[[nodiscard]] StreamOrder stream_order(const program::Program& program);

class CudaStreams {
 public:
  CudaStreams();
  ~CudaStreams();
  CudaStreams(const CudaStreams&) = delete;
  CudaStreams& operator=(const CudaStreams&) = delete;

  [[nodiscard]] bool one() const { return exchange_ == nullptr || kept_to_one_; }
  void keep_to_one() { kept_to_one_ = true; }  // before the first walk
  [[nodiscard]] void* compute() const { return compute_; }
  // Where the operation at hand is enqueued.
  [[nodiscard]] const CudaLane& lane() const { return lane_; }
  // Whether the operation at hand is the first on its stream in this walk, or waits for the other.
  [[nodiscard]] bool joined() const { return joined_; }
  void wait() const;  // until both are idle

  // A walk: begin, then enter and leave for each operation in issue order, then end. The exchange
  // stream starts after all earlier work of the compute stream, which waits for it at the end.
  // order: outlives the walk.
  void begin(const StreamOrder& order);
  void enter(std::size_t operation);
  void leave(std::size_t operation);
  void end();
  // After a walk that was not captured: the first communication that is not done, or all ones where
  // there is none.
  [[nodiscard]] std::size_t first_open();

 private:
  void* signal(std::size_t index);

  const kernels::CudaApi& api_;
  void *compute_, *exchange_ = nullptr;
  void *fork_, *join_;
  CudaLane lane_;
  const StreamOrder* order_ = nullptr;  // of this walk or the last one
  bool kept_to_one_ = false;
  bool beside_ = false;  // this walk is on both streams
  bool joined_ = false;
  std::vector<void*> signals_;  // by operation
};

}  // namespace imhotep::executor
