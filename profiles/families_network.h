#pragma once
// Communication: priced by profiles::collective_bytes; work is only what one rank holds.
// See profiles/families.h.

#include "profiles/families.h"

namespace imhotep::profiles {

struct Collective : OneVariant {
  static constexpr bool kCommunication = true;
};

struct CollectiveOfElements : Collective {
  static constexpr std::array kKeys = {"elements"};
  template <class Shape>
  static Key key(const Shape& s) {
    return {number(s.elements)};
  }
  static Work work(int, const Key& x, ElementSizes size) { return {0, x[0] * size.data}; }
};

template <>
struct Family<AllReduce> : CollectiveOfElements {};
template <>
struct Family<AllGather> : CollectiveOfElements {};
template <>
struct Family<ReduceScatter> : CollectiveOfElements {};

template <>
struct Family<AllGatherRows> : Collective {
  static constexpr std::array kKeys = {"rows", "hidden"};
  static Key key(const AllGatherRows& s) { return {s.rows.expected, number(s.hidden)}; }
  static Work work(int, const Key& x, ElementSizes size) { return {0, x[0] * x[1] * size.data}; }
};

struct ByAlgorithm {
  static constexpr bool kCommunication = true;
  static Variants variants() { return {"flat", "hierarchical", "coordinated", "all_gather"}; }
  template <class Shape>
  static int variant(const Shape& s) {
    return static_cast<int>(s.algorithm);
  }
};

template <>
struct Family<ExchangeCounts> : ByAlgorithm {
  static constexpr std::array kKeys = {"experts"};
  static Key key(const ExchangeCounts& s) { return {number(s.local_experts)}; }
  static Work work(int, const Key& x, ElementSizes) { return {0, x[0] * kIndexBytes}; }
};

template <>
struct Family<ExchangeRows> : ByAlgorithm {
  static constexpr std::array kKeys = {"rows", "hidden"};
  static Key key(const ExchangeRows& s) {
    if (s.algorithm == ExchangeAlgorithm::AllGather) return {s.send.expected, number(s.hidden)};
    const double rows = s.send.expected > s.receive.expected ? s.send.expected : s.receive.expected;
    return {rows, number(s.hidden)};
  }
  static Work work(int, const Key& x, ElementSizes size) { return {0, x[0] * x[1] * size.data}; }
};

}  // namespace imhotep::profiles
