#pragma once
// The best candidates seen so far, in a bounded amount of memory. Order: score, then order of
// arrival, so that the same search always gives the same answer.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "planner/objective/objective.h"
#include "planner/space/space.h"

namespace imhotep::planner {

struct Scored {
  Score score;
  Candidate candidate;
  std::int64_t bytes = 0;     // needed at least
  std::uint64_t arrival = 0;  // set by the pool
};

inline constexpr std::size_t kExhaustive = 2'000'000;  // candidates that are all kept
inline constexpr std::size_t kPoolKept = 10'000;       // of larger spaces
inline constexpr std::size_t kRejectedKept = 64;

[[nodiscard]] inline std::size_t default_kept(Count space) {
  return space <= kExhaustive ? kExhaustive : kPoolKept;
}

class Pool {
 public:
  explicit Pool(std::size_t kept) : kept_(kept) {}

  void add(Scored scored) {
    scored.arrival = arrivals_++;
    if (full_ && !before(scored, worst_)) return;
    entries_.push_back(scored);
    sorted_ = false;
    if (entries_.size() >= 2 * kept_) trim();
  }

  // True once candidates have been dropped: whoever cannot beat the worst kept one is of no use.
  [[nodiscard]] bool is_bounded() const { return full_; }
  [[nodiscard]] bool refuses(const Score& score) const { return full_ && !(score < worst_.score); }

  // Removes and returns the best; nothing when the pool is empty.
  std::optional<Scored> take_best() {
    const auto later = [](const Scored& a, const Scored& b) { return before(b, a); };
    if (!sorted_) std::make_heap(entries_.begin(), entries_.end(), later);
    sorted_ = true;
    if (entries_.empty()) return std::nullopt;
    std::pop_heap(entries_.begin(), entries_.end(), later);
    const Scored best = entries_.back();
    entries_.pop_back();
    return best;
  }

 private:
  static bool before(const Scored& a, const Scored& b) {
    return a.score != b.score ? a.score < b.score : a.arrival < b.arrival;
  }

  void trim() {
    const auto last = entries_.begin() + static_cast<std::ptrdiff_t>(kept_) - 1;
    std::nth_element(entries_.begin(), last, entries_.end(), before);
    entries_.resize(kept_);
    worst_ = entries_.back();
    full_ = true;
  }

  std::size_t kept_;
  std::vector<Scored> entries_;
  Scored worst_;
  std::uint64_t arrivals_ = 0;
  bool full_ = false, sorted_ = false;
};

}  // namespace imhotep::planner
