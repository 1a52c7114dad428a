#pragma once
// How each family is described: one Family<Shape> a type of program::Shape, with
//   kKeys       names of its numbers
//   variants()  texts of its options; variant(shape) indexes them
//   key(shape)  the numbers, in the order of kKeys
//   work(variant, key, sizes)  FLOPs and bytes, from variant and key alone
// Internal to profiles/description.cpp. The primary template is left undefined on purpose.
// FLOPs of transcendental functions count as the polynomial that evaluates them: exp 12, tanh 16.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "profiles/description.h"

namespace imhotep::profiles {

template <class Shape>
struct Family;

struct ElementSizes {
  double data = 4, wide = 4;  // bytes of an element of either type
};

inline constexpr double kExpFlops = 12, kGeluFlops = 20;
inline constexpr double kIndexBytes = 4;

[[nodiscard]] constexpr double number(std::int64_t value) { return static_cast<double>(value); }

using Variants = std::vector<std::string>;

// A family without options.
struct OneVariant {
  static constexpr bool kCommunication = false;
  static Variants variants() { return {""}; }
  template <class Shape>
  static int variant(const Shape&) {
    return 0;
  }
};

// A family that overwrites its output or adds to it.
struct SetOrAccumulate {
  static constexpr bool kCommunication = false;
  static Variants variants() { return {"", "accumulate"}; }
  template <class Shape>
  static int variant(const Shape& shape) {
    return shape.accumulate ? 1 : 0;
  }
};

struct Elements : OneVariant {
  static constexpr std::array kKeys = {"elements"};
  template <class Shape>
  static Key key(const Shape& shape) {
    return {number(shape.elements)};
  }
};

struct RowsByHidden {
  static constexpr std::array kKeys = {"rows", "hidden"};
  template <class Shape>
  static Key key(const Shape& shape) {
    return {number(shape.rows), number(shape.hidden)};
  }
};

struct RowsByColumns : OneVariant {
  static constexpr std::array kKeys = {"rows", "cols"};
  template <class Shape>
  static Key key(const Shape& shape) {
    return {number(shape.rows), number(shape.cols)};
  }
};

}  // namespace imhotep::profiles
