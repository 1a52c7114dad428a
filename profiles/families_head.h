#pragma once
// Head, loss and update. See profiles/families.h.

#include "profiles/families.h"

namespace imhotep::profiles {

template <>
struct Family<SoftmaxStats> : RowsByColumns {
  static Work work(int, const Key& x, ElementSizes size) {
    return {(kExpFlops + 2) * x[0] * x[1], x[0] * x[1] * size.data};
  }
};

template <>
struct Family<CrossEntropy> {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"rows", "cols"};
  static Variants variants() { return {"value", "gradient"}; }
  static int variant(const CrossEntropy& s) { return s.gradient ? 1 : 0; }
  static Key key(const CrossEntropy& s) { return {number(s.rows), number(s.cols)}; }
  static Work work(int gradient, const Key& x, ElementSizes size) {
    return {gradient * (kExpFlops + 2) * x[0] * x[1] + 20 * x[0],
            2 * gradient * x[0] * x[1] * size.data + 5 * x[0] * size.wide};
  }
};

template <>
struct Family<Distill> : RowsByColumns {
  static Work work(int, const Key& x, ElementSizes size) {
    return {(4 * kExpFlops + 10) * x[0] * x[1], 4 * x[0] * x[1] * size.data};
  }
};

template <>
struct Family<Sample> : OneVariant {
  static constexpr std::array kKeys = {"rows", "cols"};  // columns of all parts
  static Key key(const Sample& s) { return {number(s.rows), number(s.cols * s.parts)}; }
  static Work work(int, const Key& x, ElementSizes size) {
    return {(kExpFlops + 4) * x[0] * x[1], x[0] * x[1] * size.data};
  }
};

template <>
struct Family<SumSquares> : Elements {
  static Work work(int, const Key& x, ElementSizes size) { return {2 * x[0], x[0] * size.data}; }
};

template <>
struct Family<ClipScale> : OneVariant {
  static constexpr std::array kKeys = {"one"};
  static Key key(const ClipScale&) { return {1}; }
  static Work work(int, const Key&, ElementSizes) { return {10, 24}; }
};

// Reads gradient, weight and both moments; writes all but the gradient. bf16 weights have an fp32
// master copy and fp32 moments: 2 + 3 · 8 + 2 bytes.
template <>
struct Family<AdamW> : Elements {
  static Work work(int, const Key& x, ElementSizes size) {
    return {15 * x[0], (size.data == 2 ? 28 : 7 * size.data) * x[0]};
  }
};

}  // namespace imhotep::profiles
