#include "core/layout/members.h"

#include <algorithm>
#include <stdexcept>

namespace imhotep {

Members::Members(Rank first, Steps outer, Steps inner)
    : size_(static_cast<std::size_t>(outer.count) * static_cast<std::size_t>(inner.count)),
      first_(first.value),
      outer_(outer),
      inner_(inner) {
  if (inner_.count == 1) {  // one progression is the inner one
    inner_ = outer_;
    outer_ = {};
  } else if (outer_.stride == inner_.count * inner_.stride) {
    inner_.count *= outer_.count;
    outer_ = {};
  }
  if (outer_.count == 1) outer_ = {};
  if (inner_.count == 1) inner_ = {};
}

Rank Members::at(std::size_t i) const {
  if (i >= size_) throw std::out_of_range("a group has no such member");
  return (*this)[i];
}

std::size_t Members::index_of(Rank rank) const {
  if (!list_.empty() || size_ == 0) {
    return static_cast<std::size_t>(std::find(list_.begin(), list_.end(), rank) - list_.begin());
  }
  for (int o = 0; o < outer_.count; ++o) {
    const int beyond = rank.value - first_ - o * outer_.stride;
    if (beyond < 0 || beyond % inner_.stride != 0 || beyond / inner_.stride >= inner_.count) {
      continue;
    }
    return static_cast<std::size_t>(o) * static_cast<std::size_t>(inner_.count) +
           static_cast<std::size_t>(beyond / inner_.stride);
  }
  return size_;
}

void Members::push_back(Rank rank) {
  if (list_.empty() && size_ > 0) list_.assign(begin(), end());
  list_.push_back(rank);
  size_ = list_.size();
}

// visit(node, members on it), node by node. The members of a progression ascend, so that those of a
// node follow each other, but runs of an outer progression may share one: it comes twice then.
template <class Visit>
void Members::for_each_node(int ranks_per_node, Visit visit) const {
  if (!list_.empty()) {
    std::vector<int> nodes;
    for (const Rank rank : list_) nodes.push_back(rank.value / ranks_per_node);
    std::sort(nodes.begin(), nodes.end());
    for (const int node : nodes) visit(node, 1);
    return;
  }
  for (int o = 0; size_ > 0 && o < outer_.count; ++o) {
    for (int i = 0; i < inner_.count;) {
      const int rank = first_ + o * outer_.stride + i * inner_.stride;
      const int node = rank / ranks_per_node;
      const int room = (node + 1) * ranks_per_node - 1 - rank;  // ranks of the node beyond this
      const int run = std::min(inner_.count - i, 1 + room / inner_.stride);
      visit(node, run);
      i += run;
    }
  }
}

// Of a run whose nodes follow each other without a gap, or hold one member each: by arithmetic.
std::optional<Members::Spread> Members::spread_of_run(int ranks_per_node) const {
  if (inner_.stride % ranks_per_node == 0) {
    return Spread{.nodes = inner_.count, .first = 1, .fullest = 1};
  }
  if (ranks_per_node % inner_.stride != 0) return std::nullopt;
  const int last = first_ + (inner_.count - 1) * inner_.stride;
  const int room = ranks_per_node - 1 - first_ % ranks_per_node;
  Spread spread{.nodes = last / ranks_per_node - first_ / ranks_per_node + 1,
                .first = std::min(inner_.count, 1 + room / inner_.stride)};
  spread.fullest = spread.nodes > 2    ? ranks_per_node / inner_.stride
                   : spread.nodes == 2 ? std::max(spread.first, inner_.count - spread.first)
                                       : inner_.count;
  return spread;
}

Members::Spread Members::spread(int ranks_per_node) const {
  if (list_.empty() && size_ > 0) {
    const int span = (inner_.count - 1) * inner_.stride + first_ % ranks_per_node;
    const bool apart =
        outer_.count == 1 || (outer_.stride % ranks_per_node == 0 &&
                              span / ranks_per_node < outer_.stride / ranks_per_node);
    std::optional<Spread> run = apart ? spread_of_run(ranks_per_node) : std::nullopt;
    if (run) {
      run->nodes *= outer_.count;
      return *run;
    }
  }
  Spread spread;
  int last = -1, members = 0;
  for_each_node(ranks_per_node, [&](int node, int run) {
    if (node != last) {
      ++spread.nodes;
      members = 0;
    }
    last = node;
    members += run;
    if (spread.nodes == 1) spread.first = members;
    spread.fullest = std::max(spread.fullest, members);
  });
  return spread;
}

int Members::on_node(int node, int ranks_per_node) const {
  const int begin = node * ranks_per_node, end = begin + ranks_per_node;
  if (!list_.empty() || size_ == 0) {
    return static_cast<int>(std::count_if(list_.begin(), list_.end(), [&](Rank rank) {
      return rank.value >= begin && rank.value < end;
    }));
  }
  int members = 0;
  for (int o = 0; o < outer_.count; ++o) {
    const int first = first_ + o * outer_.stride;
    const auto before = [&](int rank) {  // members of the run below it
      return std::clamp((rank - first + inner_.stride - 1) / inner_.stride, 0, inner_.count);
    };
    members += (end > first ? before(end) : 0) - (begin > first ? before(begin) : 0);
  }
  return members;
}

bool Members::same_steps(const Members& other) const {
  return list_.empty() && other.list_.empty() && size_ == other.size_ && first_ == other.first_ &&
         outer_.count == other.outer_.count && outer_.stride == other.outer_.stride &&
         inner_.count == other.inner_.count && inner_.stride == other.inner_.stride;
}

bool Members::operator==(const Members& other) const {
  if (list_.empty() && other.list_.empty()) return size_ == 0 ? other.empty() : same_steps(other);
  return size_ == other.size_ && std::equal(begin(), end(), other.begin());
}

// Two progressions differ where they begin, in their second members, or where the shorter inner
// run ends; else one begins with the other.
std::strong_ordering Members::operator<=>(const Members& other) const {
  if (!list_.empty() || !other.list_.empty()) {
    return std::lexicographical_compare_three_way(begin(), end(), other.begin(), other.end());
  }
  const auto run = static_cast<std::size_t>(std::min(inner_.count, other.inner_.count));
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}, run}) {
    if (i >= size_ || i >= other.size_) return size_ <=> other.size_;
    if ((*this)[i] != other[i]) return (*this)[i] <=> other[i];
  }
  return size_ <=> other.size_;
}

}  // namespace imhotep
