// Where buffers lie in the arena. Lifetimes are intervals of the issue order. Where streams run
// beside each other, an interval that is over may still be in use on the other stream: its bytes
// stay closed to every buffer that begins before that use is known to be done.

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "core/program/streams.h"

namespace imhotep::program {
namespace {

constexpr std::int64_t kAlignment = 64;  // bytes: a cache line, and any vector register

struct Extent {
  std::int64_t begin = 0, end = 0;
  [[nodiscard]] std::int64_t bytes() const { return end - begin; }
};

// Free space of the arena, by offset; the arena grows when no gap is large enough.
class Arena {
 public:
  // closed: bytes that must not be taken, ascending by begin.
  std::int64_t take(std::int64_t bytes, const std::vector<Extent>& closed) {
    Extent best{0, -1};
    for (const auto& [begin, end] : free_) {
      each_open(begin, end, closed, [&](const Extent& open) {
        const bool fits = open.bytes() >= bytes;
        if (fits && (best.end < 0 || open.bytes() < best.bytes())) best = open;
      });
    }
    const std::int64_t offset = best.end >= 0 ? best.begin : extend(bytes, closed);
    remove({offset, offset + bytes});
    return offset;
  }

  void give_back(std::int64_t begin, std::int64_t end) {
    if (begin == end) return;
    const auto after = free_.lower_bound(begin);
    if (after != free_.end() && after->first == end) {
      end = after->second;
      free_.erase(after);
    }
    if (const auto next = free_.lower_bound(begin); next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->second == begin) {
        before->second = end;
        return;
      }
    }
    free_.emplace(begin, end);
  }

  [[nodiscard]] std::int64_t end() const { return end_; }

 private:
  template <class Visit>
  static void each_open(std::int64_t begin, std::int64_t end, const std::vector<Extent>& closed,
                        const Visit& visit) {
    for (const Extent& one : closed) {
      if (one.end <= begin || one.begin >= end) continue;
      if (one.begin > begin) visit(Extent{begin, one.begin});
      begin = std::max(begin, one.end);
    }
    if (begin < end) visit(Extent{begin, end});
  }

  // Open space at the end is used as the beginning of the new space.
  std::int64_t extend(std::int64_t bytes, const std::vector<Extent>& closed) {
    std::int64_t begin = end_;
    if (!free_.empty() && std::prev(free_.end())->second == end_) {
      const std::int64_t last = std::prev(free_.end())->first;
      each_open(last, end_, closed, [&](const Extent& open) {
        if (open.end == end_) begin = open.begin;
      });
    }
    give_back(end_, begin + bytes);
    end_ = begin + bytes;
    return begin;
  }

  void remove(const Extent& taken) {
    if (taken.bytes() == 0) return;
    const auto gap = std::prev(free_.upper_bound(taken.begin));
    const auto [begin, end] = *gap;
    free_.erase(gap);
    if (begin < taken.begin) free_.emplace(begin, taken.begin);
    if (taken.end < end) free_.emplace(taken.end, end);
  }

  std::map<std::int64_t, std::int64_t> free_;  // begin -> end
  std::int64_t end_ = 0;
};

// Which dead buffers the other stream may still use.
class Uses {
 public:
  Uses(const Program& program, bool concurrent) : program_(program) {
    if (!concurrent) return;
    done_ = done_elsewhere(program);
    last_.resize(program.operations.size());
    std::vector<std::array<int, 2>> last(program.buffers.size(), {-1, -1});
    for (int i = 0; i < static_cast<int>(program.operations.size()); ++i) {
      const Operation& operation = program.operations[i];
      on_[stream(i)].push_back(i);
      for (const Operands* operands : {&operation.inputs, &operation.outputs}) {
        for (const Operand& operand : *operands) {
          if (operand.valid()) last[operand.buffer.value][stream(i)] = i;
        }
      }
    }
    for (std::size_t b = 0; b < last.size(); ++b) {
      if (!program.buffers[b].in_arena()) continue;
      for (const int i : last[b]) {
        if (i >= 0) last_[i].push_back(static_cast<int>(b));
      }
    }
  }

  // Bytes of buffers that are dead at `operation` but not yet let go by the other stream.
  [[nodiscard]] std::vector<Extent> closed(int operation) const {
    std::vector<Extent> list;
    if (done_.empty()) return list;
    const std::vector<int>& others = on_[1 - stream(operation)];
    auto other = std::upper_bound(others.begin(), others.end(), done_[operation]);
    for (; other != others.end() && *other < operation; ++other) {
      for (const int b : last_[*other]) {
        const Buffer& buffer = program_.buffers[b];
        if (buffer.last_use >= operation || buffer.bytes() == 0) continue;
        list.push_back({buffer.offset, buffer.offset + buffer.bytes()});
      }
    }
    std::sort(list.begin(), list.end(),
              [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (Extent& one : list) one.end = (one.end + kAlignment - 1) / kAlignment * kAlignment;
    return list;
  }

 private:
  [[nodiscard]] std::size_t stream(int operation) const {
    return static_cast<std::size_t>(program_.operations[operation].stream);
  }

  const Program& program_;
  std::vector<int> done_;
  std::array<std::vector<int>, 2> on_;  // operations by stream
  std::vector<std::vector<int>> last_;  // by operation: buffers that its stream uses no more
};

}  // namespace

void place_buffers(Program& program, bool concurrent) {
  const auto steps = static_cast<int>(program.operations.size());
  std::vector<std::vector<int>> starts(steps), ends(steps);
  for (std::size_t b = 0; b < program.buffers.size(); ++b) {
    const Buffer& buffer = program.buffers[b];
    if (!buffer.in_arena() || buffer.first_use < 0) continue;
    starts[buffer.first_use].push_back(static_cast<int>(b));
    ends[buffer.last_use].push_back(static_cast<int>(b));
  }
  const Uses uses(program, concurrent);
  Arena arena;
  const auto aligned = [&](int b) {
    return (program.buffers[b].bytes() + kAlignment - 1) / kAlignment * kAlignment;
  };
  for (int i = 0; i < steps; ++i) {
    std::sort(starts[i].begin(), starts[i].end(),
              [&](int a, int b) { return aligned(a) > aligned(b); });
    if (!starts[i].empty()) {
      const std::vector<Extent> closed = uses.closed(i);
      for (const int b : starts[i]) program.buffers[b].offset = arena.take(aligned(b), closed);
    }
    for (const int b : ends[i]) {
      const std::int64_t offset = program.buffers[b].offset;
      arena.give_back(offset, offset + aligned(b));
    }
  }
  program.arena_bytes = arena.end();
}

}  // namespace imhotep::program
