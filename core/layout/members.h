#pragma once
// The ranks of a group, in the order in which they are addressed. What follows from degrees is a
// progression, or a progression of equal progressions, and is kept as such: a group of a hundred
// thousand ranks costs what one of two costs. Other groups are lists. Read like a vector.

#include <compare>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/ids.h"

namespace imhotep {

class Members {
 public:
  struct Steps {
    int count = 1, stride = 1;
  };

  class Iterator {
   public:
    using iterator_category = std::random_access_iterator_tag;
    using value_type = Rank;
    using difference_type = std::ptrdiff_t;
    using pointer = const Rank*;
    using reference = Rank;
    Iterator() = default;
    Iterator(const Members* members, difference_type at) : members_(members), at_(at) {}
    Rank operator*() const { return (*members_)[static_cast<std::size_t>(at_)]; }
    Rank operator[](difference_type n) const { return *(*this + n); }
    Iterator& operator++() { return *this += 1; }
    Iterator operator++(int) { return {members_, at_++}; }
    Iterator& operator--() { return *this += -1; }
    Iterator operator--(int) { return {members_, at_--}; }
    Iterator& operator+=(difference_type n) {
      at_ += n;
      return *this;
    }
    Iterator& operator-=(difference_type n) { return *this += -n; }
    friend Iterator operator+(Iterator a, difference_type n) { return a += n; }
    friend Iterator operator+(difference_type n, Iterator a) { return a += n; }
    friend Iterator operator-(Iterator a, difference_type n) { return a -= n; }
    friend difference_type operator-(Iterator a, Iterator b) { return a.at_ - b.at_; }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }
    auto operator<=>(const Iterator& other) const { return at_ <=> other.at_; }

   private:
    const Members* members_ = nullptr;
    difference_type at_ = 0;
  };
  using value_type = Rank;
  using const_iterator = Iterator;

  Members() = default;
  Members(std::initializer_list<Rank> ranks) : size_(ranks.size()), list_(ranks) {}
  Members(std::vector<Rank> ranks)  // NOLINT(google-explicit-constructor): a list is a group
      : size_(ranks.size()), list_(std::move(ranks)) {}
  // first, first + stride, ...
  Members(Rank first, Steps steps) : Members(first, {.count = 1}, steps) {}
  // `inner` from first, from first + outer.stride, ...   Requires: runs that do not overlap.
  Members(Rank first, Steps outer, Steps inner);

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] Rank operator[](std::size_t i) const {
    if (!list_.empty()) return list_[i];
    const auto at = static_cast<int>(i);
    if (outer_.count == 1) return Rank(first_ + at * inner_.stride);
    return Rank(first_ + at / inner_.count * outer_.stride + at % inner_.count * inner_.stride);
  }
  [[nodiscard]] Rank at(std::size_t i) const;  // Throws: std::out_of_range
  [[nodiscard]] Rank front() const { return (*this)[0]; }
  [[nodiscard]] Iterator begin() const { return {this, 0}; }
  [[nodiscard]] Iterator end() const { return {this, static_cast<std::ptrdiff_t>(size_)}; }
  [[nodiscard]] std::size_t index_of(Rank rank) const;  // size() for a stranger
  void push_back(Rank rank);                            // Cost: a progression becomes a list
  void emplace_back(int rank) { push_back(Rank(rank)); }

  // How the members lie on nodes; ranks with equal rank / ranks_per_node share one.
  struct Spread {
    int nodes = 0;
    int first = 0;    // members on the lowest node
    int fullest = 0;  // members on the node that has most
  };
  [[nodiscard]] Spread spread(int ranks_per_node) const;
  [[nodiscard]] int on_node(int node, int ranks_per_node) const;

  bool operator==(const Members& other) const;
  std::strong_ordering operator<=>(const Members& other) const;  // as lists

 private:
  [[nodiscard]] bool same_steps(const Members& other) const;
  [[nodiscard]] std::optional<Spread> spread_of_run(int ranks_per_node) const;
  template <class Visit>
  void for_each_node(int ranks_per_node, Visit visit) const;

  std::size_t size_ = 0;
  int first_ = 0;
  Steps outer_, inner_;  // where there is no list; strides are positive
  std::vector<Rank> list_;
};

}  // namespace imhotep
