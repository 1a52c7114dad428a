#include "executor/runtime/cuda_rank.h"

#include <chrono>
#include <cstring>

#include "core/base/fail.h"
#include "core/base/scratch.h"
#include "executor/runtime/own_device.h"

namespace imhotep::executor {
namespace {

using kernels::Fault;
using kernels::FaultRecord;

void raise_fault(const FaultRecord& record) {
  const std::int32_t a = record.values[0], b = record.values[1];
  switch (record.fault) {
    case Fault::None:
      return;
    case Fault::RowsExceedBound:
      fail(
          "an exchange brought {} rows, the plan's receive_rows is {}; plan with a larger bound or "
          "smaller micro-batches",
          a, b);
    case Fault::TargetOutOfRange:
      fail("target {} is not one of {} words", a, b);
    case Fault::PositionOutOfRange:
      fail("position {} lies beyond the {} that the KV cache holds for a sequence", a, b);
  }
  fail("a kernel reported the unknown fault {}", static_cast<int>(record.fault));
}

}  // namespace

CudaRank::CudaRank(const Memory& memory, const std::vector<program::Program>& programs)
    : api_(kernels::cuda_api()),
      device_(own_device()),
      memory_(memory),
      context_(api_.make_context()),
      marks_(streams_, false),
      start_(api_.make_event()),
      end_(api_.make_event()) {
  for (const program::Program& program : programs) {
    replays_.push_back({.program = &program, .order = stream_order(program)});
  }
}

CudaRank::~CudaRank() {
  for (const Replay& replay : replays_) {
    if (replay.graph != nullptr) api_.release_graph(replay.graph);
    if (replay.observed != nullptr) api_.release_graph(replay.observed);
  }
  api_.release_event(start_);
  api_.release_event(end_);
  api_.release_context(context_);
}

kernels::Queue CudaRank::queue(Dtype dtype) const {
  const Memory::Inputs& inputs = memory_.inputs();
  return {.device = kernels::Device::Cuda,
          .dtype = dtype,
          .stream = streams_.compute(),
          .context = context_,
          .workspace = memory_.workspace(),
          .workspace_bytes = kCudaWorkspaceBytes,
          .fault = reinterpret_cast<FaultRecord*>(inputs.device + inputs.fault_offset)};
}

void CudaRank::begin() {
  api_.use_device(device_);  // of this thread, which may not be the one that made the stream
  const Memory::Inputs& inputs = memory_.inputs();
  const FaultRecord none;
  std::memcpy(inputs.host + inputs.fault_offset, &none, sizeof none);
  api_.copy_in(inputs.device, inputs.host, inputs.bytes, streams_.compute());
}

// As wait(), but names what the device is at when that takes long: a rank that waits for one that
// has died says in which communication. A walk leaves a signal behind each.
void CudaRank::wait_watched(const program::Program& walked) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kPatience(20);
  auto asked = Clock::now();
  api_.record(end_, streams_.compute());
  while (!api_.reached(end_)) {
    if (Clock::now() - asked < kPatience) continue;
    const std::size_t at = streams_.first_open();
    if (at < walked.operations.size()) place_(walked.operations[at]);
    asked = Clock::now();
  }
}

void CudaRank::finish(const program::Program* walked) {
  const Memory::Inputs& inputs = memory_.inputs();
  api_.copy_out(inputs.host, inputs.device, inputs.bytes, streams_.compute());
  if (walked != nullptr && place_) wait_watched(*walked);
  api_.wait(streams_.compute());
  FaultRecord record;
  std::memcpy(&record, inputs.host + inputs.fault_offset, sizeof record);
  raise_fault(record);
}

// Operations wait for those of the other stream before `before`, and let them go after `after`.
void CudaRank::walk(std::size_t program, const Enqueue& enqueue, const Step& before,
                    const Step& after) {
  const Replay& known = replays_[program];
  kernels::Queue one = queue(known.program->dtype);
  streams_.begin(known.order);
  for (std::size_t i = 0; i < known.program->operations.size(); ++i) {
    const program::Operation& operation = known.program->operations[i];
    streams_.enter(i);
    one.stream = streams_.lane().stream;
    if (before) before(operation);
    enqueue(operation, one);
    if (after) after(operation);
    streams_.leave(i);
  }
  streams_.end();
}

void CudaRank::run(std::size_t program, bool replay, const Enqueue& enqueue, const Step& after) {
  Replay& known = replays_[program];
  begin();
  if (!replay || !known.warm) {
    walk(program, enqueue, {}, after);
    known.warm = true;
    finish(known.program);
    return;
  }
  if (known.graph == nullptr) {
    api_.begin_capture(streams_.compute());
    walk(program, enqueue, {}, {});
    known.graph = api_.end_capture(streams_.compute());
  }
  api_.launch_graph(known.graph, streams_.compute());
  finish(nullptr);
}

std::vector<double> CudaRank::replay_us(std::size_t program, const Repeats& how,
                                        const Enqueue& enqueue) {
  void* stream = streams_.compute();
  begin();
  api_.begin_capture(stream);
  for (int i = 0; i < how.copies; ++i) walk(program, enqueue, {}, {});
  void* graph = api_.end_capture(stream);
  std::vector<double> times;
  for (int i = 0; i <= how.repeats; ++i) {
    if (how.cold) api_.set(memory_.workspace(), i & 0xff, kCudaWorkspaceBytes, stream);
    api_.record(start_, stream);
    api_.launch_graph(graph, stream);
    api_.record(end_, stream);
    const double time = api_.elapsed_us(start_, end_) / how.copies;
    if (i > 0) times.push_back(time);
  }
  api_.release_graph(graph);
  finish(nullptr);
  return times;
}

void CudaRank::walk_marked(std::size_t program, const Enqueue& enqueue, CudaMarks& marks) {
  marks.begin();
  walk(
      program, enqueue, [&](const program::Operation& operation) { marks.before(operation); },
      [&](const program::Operation& operation) { marks.after(operation); });
}

// Whether the program can be captured with events between its operations; if not, it is observed
// without a graph.
bool CudaRank::capture_observed(std::size_t program, const Enqueue& enqueue) {
  Replay& known = replays_[program];
  if (known.observed != nullptr) return true;
  if (!events_in_graphs_) return false;
  known.marks = std::make_unique<CudaMarks>(streams_, true);
  api_.begin_capture(streams_.compute());
  try {
    walk_marked(program, enqueue, *known.marks);
    known.observed = api_.end_capture(streams_.compute());
  } catch (const Error&) {
    events_in_graphs_ = false;
    try {
      api_.release_graph(api_.end_capture(streams_.compute()));
    } catch (const Error&) {  // the capture had ended already
    }
    known.marks.reset();
  }
  return known.observed != nullptr;
}

double CudaRank::run_observed(std::size_t program, bool replay, const Enqueue& enqueue,
                              const CudaMarks::Observer& observer) {
  Replay& known = replays_[program];
  if (replay && known.warm && capture_observed(program, enqueue)) {
    begin();
    api_.launch_graph(known.observed, streams_.compute());
    finish(nullptr);
    return known.marks->report(observer);
  }
  begin();
  walk_marked(program, enqueue, marks_);
  finish(known.program);
  known.warm = true;
  return marks_.report(observer);
}

std::int64_t free_device_memory_bytes() {
  return kernels::cuda_api().device(own_device()).free_bytes;
}

}  // namespace imhotep::executor
