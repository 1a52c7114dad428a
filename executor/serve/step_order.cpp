#include "executor/serve/step_order.h"

#include <cstring>
#include <type_traits>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

class Writer {
 public:
  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <class T>
  void list(const std::vector<T>& values) {
    put(static_cast<std::int64_t>(values.size()));
    if constexpr (std::is_trivially_copyable_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    } else {
      for (const T& value : values) write(*this, value);
    }
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  void get(T& value) {
    std::memcpy(&value, next(sizeof value), sizeof value);
  }
  template <class T>
  void list(std::vector<T>& values) {
    std::int64_t count = 0;
    get(count);
    if (count < 0 || static_cast<std::uint64_t>(count) > bytes_.size()) {
      fail("step message: a list of {} in {} bytes", count, bytes_.size());
    }
    values.resize(static_cast<std::size_t>(count));
    if constexpr (std::is_trivially_copyable_v<T>) {
      if (count > 0)
        std::memcpy(values.data(), next(values.size() * sizeof(T)), values.size() * sizeof(T));
    } else {
      for (T& value : values) read(*this, value);
    }
  }
  void expect_end() const {
    if (!bytes_.empty()) fail("step message: {} bytes too many", bytes_.size());
  }

 private:
  const char* next(std::size_t count) {
    if (count > bytes_.size()) fail("step message: {} bytes are missing", count - bytes_.size());
    const char* at = bytes_.data();
    bytes_.remove_prefix(count);
    return at;
  }
  std::string_view bytes_;
};

void write(Writer& w, const SequenceOrder& s) {
  w.put(s.piece);
  w.list(s.tokens);
  w.put(s.sampling);
  w.put(s.alternatives);
}
void read(Reader& r, SequenceOrder& s) {
  r.get(s.piece);
  r.list(s.tokens);
  r.get(s.sampling);
  r.get(s.alternatives);
}

void write(Writer& w, const BatchOrder& b) {
  w.list(b.sequences);
  w.list(b.pages);
}
void read(Reader& r, BatchOrder& b) {
  r.list(b.sequences);
  r.list(b.pages);
}

void write(Writer& w, const Sampled& s) {
  w.put(s.request);
  w.put(s.token);
  w.put(s.logprob);
  w.list(s.alternatives);
}
void read(Reader& r, Sampled& s) {
  r.get(s.request);
  r.get(s.token);
  r.get(s.logprob);
  r.list(s.alternatives);
}

}  // namespace

std::string to_bytes(const StepOrder& order) {
  Writer w;
  w.put(order.kind);
  w.put(order.bucket);
  w.put(order.idle_us);
  w.put(order.report_load);
  w.list(order.ranks);
  return w.take();
}

StepOrder order_from(std::string_view bytes) {
  Reader r(bytes);
  StepOrder order;
  r.get(order.kind);
  r.get(order.bucket);
  r.get(order.idle_us);
  r.get(order.report_load);
  r.list(order.ranks);
  r.expect_end();
  return order;
}

std::string to_bytes(const StepOutcome& outcome) {
  Writer w;
  w.list(outcome.sampled);
  w.list(outcome.load);
  return w.take();
}

StepOutcome outcome_from(std::string_view bytes) {
  Reader r(bytes);
  StepOutcome outcome;
  r.list(outcome.sampled);
  r.list(outcome.load);
  r.expect_end();
  return outcome;
}

}  // namespace imhotep::executor
