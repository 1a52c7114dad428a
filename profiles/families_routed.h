#pragma once
// Routing and the experts. See profiles/families.h.
// Rows that routing decides count as expected; tables of indices have four bytes an entry.

#include "profiles/families.h"

namespace imhotep::profiles {

template <>
struct Family<Route> {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"tokens", "experts", "k"};
  static Variants variants() { return {"", "random", "probability", "position"}; }
  static int variant(const Route& s) { return static_cast<int>(s.policy); }
  static Key key(const Route& s) { return {number(s.tokens), number(s.experts), number(s.k)}; }
  static Work work(int, const Key& x, ElementSizes size) {
    return {(kExpFlops + 4 + x[2]) * x[0] * x[1], 2 * x[0] * x[1] * size.wide};
  }
};

template <>
struct Family<RouteGrad> : OneVariant {
  static constexpr std::array kKeys = {"tokens", "experts", "k"};
  static Key key(const RouteGrad& s) { return {number(s.tokens), number(s.experts), number(s.k)}; }
  static Work work(int, const Key& x, ElementSizes size) {
    return {6 * x[0] * x[1], 2 * x[0] * x[1] * size.wide};
  }
};

template <>
struct Family<PackOrder> : OneVariant {
  static constexpr std::array kKeys = {"tokens", "routes", "experts"};
  static Key key(const PackOrder& s) {
    return {number(s.token_end - s.token_begin), number(s.k * s.copies), number(s.experts)};
  }
  static Work work(int, const Key& x, ElementSizes) {
    return {0, (3 * x[0] * x[1] + 2 * x[2]) * kIndexBytes};
  }
};

template <>
struct Family<ReceiveOrder> : OneVariant {
  static constexpr std::array kKeys = {"rows", "sources", "experts"};
  static Key key(const ReceiveOrder& s) {
    return {s.rows.expected, number(s.sources), number(s.local_experts)};
  }
  static Work work(int, const Key& x, ElementSizes) {
    return {0, (x[0] + 2 * x[1] * x[2]) * kIndexBytes};
  }
};

template <>
struct Family<GatherRows> {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"rows", "hidden"};
  static Variants variants() { return {"gather", "scatter"}; }
  static int variant(const GatherRows& s) { return s.inverse ? 1 : 0; }
  static Key key(const GatherRows& s) { return {s.rows.expected, number(s.hidden)}; }
  static Work work(int, const Key& x, ElementSizes size) {
    return {0, x[0] * (2 * x[1] * size.data + kIndexBytes)};
  }
};

// Families that move the rows of every route of a token: `routes` = k x copies.
struct RoutesByHidden {
  static constexpr std::array kKeys = {"tokens", "routes", "hidden"};
  template <class Shape>
  static Key key(const Shape& s) {
    return {number(s.tokens), number(s.k * s.copies), number(s.hidden)};
  }
};

template <>
struct Family<Combine> : RoutesByHidden, OneVariant {
  static Work work(int, const Key& x, ElementSizes size) {
    return {2 * x[0] * x[1] * x[2], x[0] * (x[1] + 1) * x[2] * size.data};
  }
};

template <>
struct Family<CombineGrad> : RoutesByHidden, OneVariant {
  static Work work(int, const Key& x, ElementSizes size) {
    return {3 * x[0] * x[1] * x[2], x[0] * (2 * x[1] + 1) * x[2] * size.data};
  }
};

template <>
struct Family<ScatterSum> : RoutesByHidden, SetOrAccumulate {
  static Work work(int accumulate, const Key& x, ElementSizes size) {
    return {x[0] * x[1] * x[2], x[0] * (x[1] + 1 + accumulate) * x[2] * size.data};
  }
};

// Experts without rows are not read. `imbalance` is busiest share x active: 1 when all active
// experts have equally many rows.
template <>
struct Family<GroupedGemm> {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"rows", "active", "n", "k", "imbalance"};
  static Variants variants() {
    return {"forward",
            "forward bias",
            "forward bias_gelu",
            "grad_input",
            "grad_input gelu_grad",
            "grad_weight",
            "grad_weight accumulate"};
  }
  static int variant(const GroupedGemm& s) {
    if (s.mode == GroupedMode::Forward) return static_cast<int>(s.epilogue);
    if (s.mode == GroupedMode::GradInput) return s.epilogue == Epilogue::GeluGrad ? 4 : 3;
    return s.accumulate ? 6 : 5;
  }
  static Key key(const GroupedGemm& s) {
    return {s.rows.expected, s.active, number(s.n), number(s.k),
            s.busiest * s.active < 1 ? 1 : s.busiest * s.active};
  }
  static Work work(int variant, const Key& x, ElementSizes size) {
    const double weights = x[1] * x[2] * x[3];
    const bool gelu = variant == 2 || variant == 4, reads_gradient = variant == 6;
    const double outputs = x[0] * (variant == 4 ? x[3] : x[2]);
    return {2 * x[0] * x[2] * x[3] + (gelu ? kGeluFlops * outputs : 0),
            (weights * (reads_gradient ? 2 : 1) + x[0] * (x[2] + x[3]) + (gelu ? outputs : 0)) *
                size.data,
            variant >= 5 ? x[0] / x[1] : x[3]};
  }
};

template <>
struct Family<GroupedColumnSum> : OneVariant {
  static constexpr std::array kKeys = {"rows", "cols"};
  static Key key(const GroupedColumnSum& s) { return {s.rows.expected, number(s.cols)}; }
  static Work work(int, const Key& x, ElementSizes size) {
    return {x[0] * x[1], x[0] * x[1] * size.data};
  }
};

template <>
struct Family<ResidualMix> : RowsByHidden, OneVariant {
  static Work work(int, const Key& x, ElementSizes size) {
    return {4 * x[0] * x[1], 4 * x[0] * x[1] * size.data};
  }
};

template <>
struct Family<ResidualMixGrad> : RowsByHidden, OneVariant {
  static Work work(int, const Key& x, ElementSizes size) {
    return {6 * x[0] * x[1], 5 * x[0] * x[1] * size.data};
  }
};

}  // namespace imhotep::profiles
