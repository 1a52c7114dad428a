#include "executor/runtime/cuda_streams.h"

#include <array>
#include <cstdlib>
#include <string_view>

#include "core/program/streams.h"

namespace imhotep::executor {
namespace {

bool one_stream_wanted() {
  const char* text = std::getenv("IMHOTEP_STREAMS");
  return text != nullptr && std::string_view(text) == "1";
}

}  // namespace

StreamOrder stream_order(const program::Program& program) {
  StreamOrder order;
  const std::vector<int> done = program::done_elsewhere(program);
  order.waits.assign(done.size(), -1);
  order.signals.assign(done.size(), false);
  std::array<int, 2> known = {-1, -1};
  for (std::size_t i = 0; i < done.size(); ++i) {
    const program::Operation& operation = program.operations[i];
    order.stream.push_back(operation.stream);
    order.beside = order.beside || operation.stream == program::Stream::Exchange;
    if (operation.group.valid()) {
      order.signals[i] = true;
      order.exchanges.push_back(static_cast<int>(i));
    }
    int& before = known[static_cast<std::size_t>(operation.stream)];
    if (done[i] > before) {
      order.waits[i] = done[i];
      order.signals[done[i]] = true;
    }
    before = done[i];
  }
  return order;
}

CudaStreams::CudaStreams()
    : api_(kernels::cuda_api()),
      compute_(api_.make_stream(false)),
      exchange_(one_stream_wanted() ? nullptr : api_.make_stream(true)),
      fork_(api_.make_signal()),
      join_(api_.make_signal()),
      lane_{compute_} {}

CudaStreams::~CudaStreams() {
  for (void* signal : signals_) api_.release_event(signal);
  api_.release_event(fork_);
  api_.release_event(join_);
  if (exchange_ != nullptr) api_.release_stream(exchange_);
  api_.release_stream(compute_);
}

void CudaStreams::wait() const {
  api_.wait(compute_);
  if (exchange_ != nullptr) api_.wait(exchange_);
}

void* CudaStreams::signal(std::size_t index) {
  while (signals_.size() <= index) signals_.push_back(api_.make_signal());
  return signals_[index];
}

void CudaStreams::begin(const StreamOrder& order) {
  lane_.stream = compute_;
  joined_ = false;
  order_ = &order;
  beside_ = order.beside && !one();
  if (!beside_) return;
  api_.record(fork_, compute_);
  api_.wait_event(exchange_, fork_);
}

void CudaStreams::enter(std::size_t operation) {
  if (!beside_) return;
  const bool exchanges = order_->stream[operation] == program::Stream::Exchange;
  lane_.stream = exchanges ? exchange_ : compute_;
  joined_ = order_->waits[operation] >= 0;
  if (joined_) {
    api_.wait_event(lane_.stream, signal(static_cast<std::size_t>(order_->waits[operation])));
  }
}

void CudaStreams::leave(std::size_t operation) {
  if (order_->signals[operation]) api_.record(signal(operation), lane_.stream);
}

void CudaStreams::end() {
  lane_.stream = compute_;
  if (!beside_) return;
  api_.record(join_, exchange_);
  api_.wait_event(compute_, join_);
}

std::size_t CudaStreams::first_open() {
  for (const int i : order_->exchanges) {
    if (!api_.reached(signal(static_cast<std::size_t>(i)))) return static_cast<std::size_t>(i);
  }
  return static_cast<std::size_t>(-1);
}

}  // namespace imhotep::executor
