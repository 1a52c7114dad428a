#include "core/program/streams.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace imhotep::program {
namespace {

constexpr int kStreams = 2;

struct Range {
  int begin = 0, end = 0;
};

// What an operation touches, counted: a buffer is one place, a region of gradients one a tensor.
class Places {
 public:
  explicit Places(const Program& program) : tensors_(program.buffers.size()) {
    for (std::size_t r = 0; r < program.region_gradients.size(); ++r) {
      std::vector<std::int64_t>& starts = tensors_[program.region_gradients[r].value];
      for (const LocalTensor& tensor : program.weights.regions[r].tensors) {
        starts.push_back(tensor.offset);
      }
    }
    for (const std::vector<std::int64_t>& starts : tensors_) {
      first_.push_back(count_);
      count_ += std::max(1, static_cast<int>(starts.size()));
    }
  }

  [[nodiscard]] int count() const { return count_; }

  [[nodiscard]] Range of(const Operation& operation, const Operand& operand) const {
    const int first = first_[operand.buffer.value];
    const std::vector<std::int64_t>& starts = tensors_[operand.buffer.value];
    if (starts.empty()) return {first, first + 1};
    const auto tensor = std::upper_bound(starts.begin() + 1, starts.end(), operand.offset) - 1;
    const std::int64_t elements = std::visit(Elements{}, operation.shape);
    const auto end = elements == kOneTensor
                         ? tensor + 1
                         : std::max(tensor + 1, std::lower_bound(starts.begin(), starts.end(),
                                                                 operand.offset + elements));
    return {first + static_cast<int>(tensor - starts.begin()),
            first + static_cast<int>(end - starts.begin())};
  }

 private:
  static constexpr std::int64_t kOneTensor = -1, kAll = std::int64_t{1} << 60;
  // Elements of a region that an operation touches from its operand on.
  struct Elements {
    std::int64_t operator()(const Fill& shape) const { return shape.elements; }
    std::int64_t operator()(const AllReduce& shape) const { return shape.elements; }
    std::int64_t operator()(const SumSquares& shape) const { return shape.elements; }
    std::int64_t operator()(const AdamW& shape) const { return shape.elements; }
    std::int64_t operator()(const ReduceScatter&) const { return kAll; }
    template <class Shape>
    std::int64_t operator()(const Shape&) const {
      return kOneTensor;
    }
  };

  std::vector<std::vector<std::int64_t>> tensors_;  // by buffer: where they begin
  std::vector<int> first_;                          // by buffer
  int count_ = 0;
};

// Who touched a place since it was last written. A stream does one thing after another, so the
// last reader of each speaks for those before it.
struct Access {
  int writer = -1;
  std::array<int, kStreams> readers = {-1, -1};
};

bool communicates(const Operation& operation) { return operation.group.valid(); }

bool meet(const Places& places, const Operation& a, const Operands& of_a, const Operation& b,
          const Operands& of_b) {
  for (const Operand& x : of_a) {
    if (!x.valid()) continue;
    const Range in_a = places.of(a, x);
    for (const Operand& y : of_b) {
      if (!y.valid() || y.buffer != x.buffer) continue;
      const Range in_b = places.of(b, y);
      if (in_a.begin < in_b.end && in_b.begin < in_a.end) return true;
    }
  }
  return false;
}

bool depends(const Places& places, const Operation& later, const Operation& earlier) {
  return meet(places, later, later.inputs, earlier, earlier.outputs) ||
         meet(places, later, later.outputs, earlier, earlier.outputs) ||
         meet(places, later, later.outputs, earlier, earlier.inputs);
}

template <class Visit>
void each_place(const Places& places, const Operation& operation, const Operands& operands,
                const Visit& visit) {
  for (const Operand& operand : operands) {
    if (!operand.valid()) continue;
    const Range range = places.of(operation, operand);
    for (int place = range.begin; place < range.end; ++place) visit(place);
  }
}

}  // namespace

void assign_streams(Program& program) {
  const Places places(program);
  std::vector<Operation>& operations = program.operations;
  std::size_t queue = 0;  // communication since the last computation begins here
  for (std::size_t i = 0; i < operations.size(); ++i) {
    if (communicates(operations[i])) {
      operations[i].stream = Stream::Exchange;
      continue;
    }
    std::size_t needed = i;
    while (needed > queue && !depends(places, operations[i], operations[needed - 1])) --needed;
    for (std::size_t c = queue; c < needed; ++c) operations[c].stream = Stream::Compute;
    operations[i].stream = Stream::Compute;
    queue = i + 1;
  }
}

std::vector<int> done_elsewhere(const Program& program) {
  const Places places(program);
  std::vector<Access> accesses(static_cast<std::size_t>(places.count()));
  std::vector<int> done(program.operations.size(), -1);
  std::array<int, kStreams> known = {-1, -1};
  int last_communication = -1;
  for (int i = 0; i < static_cast<int>(program.operations.size()); ++i) {
    const Operation& operation = program.operations[i];
    const auto stream = static_cast<std::size_t>(operation.stream);
    int need = known[stream];
    const auto wait = [&](int before) {
      if (before < 0 || program.operations[before].stream == operation.stream) return;
      need = std::max(need, before);
    };
    each_place(places, operation, operation.inputs,
               [&](int place) { wait(accesses[place].writer); });
    each_place(places, operation, operation.outputs, [&](int place) {
      wait(accesses[place].writer);
      for (const int reader : accesses[place].readers) wait(reader);
    });
    if (communicates(operation)) wait(std::exchange(last_communication, i));
    each_place(places, operation, operation.inputs,
               [&](int place) { accesses[place].readers[stream] = i; });
    each_place(places, operation, operation.outputs, [&](int place) {
      accesses[place] = {i, {-1, -1}};
    });
    known[stream] = done[i] = need;
  }
  return done;
}

}  // namespace imhotep::program
