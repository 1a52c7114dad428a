#include "executor/runtime/cuda_rank.h"

#include <cstring>

#include "core/base/fail.h"
#include "core/base/scratch.h"
#include "executor/runtime/own_device.h"

namespace imhotep::executor {
namespace {

using kernels::Fault;
using kernels::FaultRecord;

}  // namespace

CudaRank::CudaRank(const Memory& memory, std::size_t programs)
    : api_(kernels::cuda_api()),
      device_(own_device()),
      memory_(memory),
      stream_(api_.make_stream(false)),
      context_(api_.make_context()),
      replays_(programs) {}

CudaRank::~CudaRank() {
  for (const Replay& replay : replays_) {
    if (replay.graph != nullptr) api_.release_graph(replay.graph);
    if (replay.observed != nullptr) api_.release_graph(replay.observed);
    for (void* event : replay.events) api_.release_event(event);
  }
  for (void* event : events_) api_.release_event(event);
  api_.release_context(context_);
  api_.release_stream(stream_);
}

kernels::Queue CudaRank::queue(Dtype dtype) const {
  return {.device = kernels::Device::Cuda,
          .dtype = dtype,
          .stream = stream_,
          .context = context_,
          .workspace = memory_.workspace(),
          .workspace_bytes = kCudaWorkspaceBytes,
          .fault = fault_of(-1)};
}

FaultRecord* CudaRank::fault_of(int layer) const {
  const Memory::Inputs& inputs = memory_.inputs();
  return reinterpret_cast<FaultRecord*>(inputs.device + inputs.fault_offset) + layer + 1;
}

void CudaRank::wait() const { api_.wait(stream_); }

void CudaRank::begin() {
  api_.use_device(device_);  // of this thread, which may not be the one that made the stream
  const Memory::Inputs& inputs = memory_.inputs();
  static_assert(static_cast<int>(Fault::None) == 0);
  std::memset(inputs.host + inputs.fault_offset, 0,
              static_cast<std::size_t>(inputs.faults) * sizeof(FaultRecord));
  api_.copy_in(inputs.device, inputs.host, inputs.bytes, stream_);
}

void CudaRank::finish() {
  const Memory::Inputs& inputs = memory_.inputs();
  api_.copy_out(inputs.host, inputs.device, inputs.bytes, stream_);
  api_.wait(stream_);
  for (int layer = -1; layer + 1 < inputs.faults; ++layer) {
    FaultRecord record;
    std::memcpy(
        &record,
        inputs.host + inputs.fault_offset + (layer + 1) * static_cast<std::int64_t>(sizeof record),
        sizeof record);
    note_fault(layer, record);
  }
}

void CudaRank::note_fault(int layer, const FaultRecord& record) {
  const std::int32_t a = record.values[0], b = record.values[1];
  switch (record.fault) {
    case Fault::None:
      return;
    case Fault::RowsExceedBound:
      if (!overflow_) overflow_ = {.layer = layer, .rows = a, .bound = b};
      return;
    case Fault::TargetOutOfRange:
      fail("target {} is not one of {} words", a, b);
    case Fault::PositionOutOfRange:
      fail("position {} lies beyond the {} that the KV cache holds for a sequence", a, b);
  }
  fail("a kernel reported the unknown fault {}", static_cast<int>(record.fault));
}

CudaRank::Replay& CudaRank::replay_of(std::size_t program) {
  if (program >= replays_.size()) replays_.resize(program + 1);
  return replays_[program];
}

void CudaRank::run(std::size_t program, Dtype dtype, bool replay, const Walk& walk) {
  const kernels::Queue one = queue(dtype);
  const Step nothing = [](const program::Operation&) {};
  Replay& known = replay_of(program);
  begin();
  if (!replay || !known.warm) {
    walk(one, nothing);
    known.warm = true;
  } else {
    if (known.graph == nullptr) {
      api_.begin_capture(stream_);
      walk(one, nothing);
      known.graph = api_.end_capture(stream_);
    }
    api_.launch_graph(known.graph, stream_);
  }
  finish();
}

std::vector<double> CudaRank::replay_us(Dtype dtype, const Repeats& how, const Walk& walk) {
  begin();
  api_.begin_capture(stream_);
  for (int i = 0; i < how.copies; ++i) walk(queue(dtype), [](const program::Operation&) {});
  void* graph = api_.end_capture(stream_);
  std::vector<double> times;
  for (int i = 0; i <= how.repeats; ++i) {
    if (how.cold) api_.set(memory_.workspace(), i & 0xff, kCudaWorkspaceBytes, stream_);
    api_.record(event(0), stream_);
    api_.launch_graph(graph, stream_);
    api_.record(event(1), stream_);
    const double time = api_.elapsed_us(events_[0], events_[1]) / how.copies;
    if (i > 0) times.push_back(time);
  }
  api_.release_graph(graph);
  finish();
  return times;
}

// Whether the program can be captured with events between its operations; if not, it is observed
// without a graph.
bool CudaRank::capture_observed(std::size_t program, Dtype dtype, const Walk& walk) {
  Replay& known = replay_of(program);
  if (known.observed != nullptr) return true;
  if (!events_in_graphs_) return false;
  const auto mark = [&] {
    known.events.push_back(api_.make_event());
    api_.record_in_graph(known.events.back(), stream_);
  };
  api_.begin_capture(stream_);
  try {
    mark();
    walk(queue(dtype), [&](const program::Operation& operation) {
      known.operations.push_back(&operation);
      mark();
    });
    known.observed = api_.end_capture(stream_);
  } catch (const Error&) {
    events_in_graphs_ = false;
    try {
      api_.release_graph(api_.end_capture(stream_));
    } catch (const Error&) {  // the capture had ended already
    }
    for (void* event : known.events) api_.release_event(event);
    known.events.clear();
    known.operations.clear();
  }
  return known.observed != nullptr;
}

void CudaRank::run_observed(std::size_t program, Dtype dtype, bool replay, const Walk& walk,
                            const Observer& observer) {
  Replay& known = replay_of(program);
  if (replay && known.warm && capture_observed(program, dtype, walk)) {
    begin();
    api_.launch_graph(known.observed, stream_);
    finish();
    for (std::size_t i = 0; i < known.operations.size(); ++i) {
      observer(*known.operations[i], api_.elapsed_us(known.events[i], known.events[i + 1]));
    }
    return;
  }
  std::vector<const program::Operation*> walked;
  begin();
  api_.record(event(0), stream_);
  walk(queue(dtype), [&](const program::Operation& operation) {
    walked.push_back(&operation);
    api_.record(event(walked.size()), stream_);
  });
  finish();
  known.warm = true;
  for (std::size_t i = 0; i < walked.size(); ++i) {
    observer(*walked[i], api_.elapsed_us(events_[i], events_[i + 1]));
  }
}

void* CudaRank::event(std::size_t index) {
  while (events_.size() <= index) events_.push_back(api_.make_event());
  return events_[index];
}

std::int64_t free_device_memory_bytes() {
  return kernels::cuda_api().device(own_device()).free_bytes;
}

}  // namespace imhotep::executor
