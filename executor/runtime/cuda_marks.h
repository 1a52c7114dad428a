#pragma once
// Events between the operations of a walk, each on the stream of its operation: what lies between
// two of them is an operation's time, without its wait for the other stream.

#include <array>
#include <functional>
#include <vector>

#include "executor/runtime/cuda_streams.h"

namespace imhotep::executor {

class CudaMarks {
 public:
  // in_graph: the walk is captured, and every replay records the events anew.
  CudaMarks(const CudaStreams& streams, bool in_graph)
      : api_(kernels::cuda_api()), streams_(streams), in_graph_(in_graph) {}
  ~CudaMarks();
  CudaMarks(const CudaMarks&) = delete;
  CudaMarks& operator=(const CudaMarks&) = delete;

  void begin();  // before the walk; forgets an earlier one
  void before(const program::Operation& operation);
  void after(const program::Operation& operation);

  // When all is done. Returns the time in which both streams were at work.
  using Observer = std::function<void(const program::Operation& operation, double time_us)>;
  double report(const Observer& observer) const;

 private:
  struct Mark {
    const program::Operation* operation;
    void *start, *end;
  };
  void* mark(void* stream);
  [[nodiscard]] std::size_t slot(const program::Operation& operation) const {
    return streams_.one() ? 0 : static_cast<std::size_t>(operation.stream);
  }

  const kernels::CudaApi& api_;
  const CudaStreams& streams_;
  bool in_graph_;
  std::vector<void*> events_;
  std::size_t used_ = 0;
  std::array<void*, 2> last_ = {};  // by stream
  std::vector<Mark> marks_;
};

}  // namespace imhotep::executor
