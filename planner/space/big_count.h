#pragma once
// A whole number of any size, not negative: how many plans there are when every layer chooses by
// itself. Only what counting needs.

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace imhotep::planner {

class BigCount {
 public:
  BigCount() = default;
  BigCount(unsigned __int128 value);  // NOLINT(google-explicit-constructor): a number is a count

  BigCount& operator+=(const BigCount& other);
  BigCount& operator-=(const BigCount& other);  // at least 0
  BigCount& operator*=(std::uint64_t factor);
  [[nodiscard]] std::strong_ordering operator<=>(const BigCount& other) const;
  [[nodiscard]] bool operator==(const BigCount& other) const = default;
  [[nodiscard]] std::string text() const;  // decimal
  [[nodiscard]] bool any() const { return !limbs_.empty(); }
  [[nodiscard]] bool exact_as_double() const { return *this <= BigCount(1ULL << 53); }
  [[nodiscard]] double value() const;

 private:
  void trim();
  std::vector<std::uint32_t> limbs_;  // lowest first, none for zero
};

}  // namespace imhotep::planner
