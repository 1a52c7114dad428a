#include "planner/space/big_count.h"

#include <algorithm>

namespace imhotep::planner {

BigCount::BigCount(unsigned __int128 value) {
  for (; value > 0; value >>= 32) limbs_.push_back(static_cast<std::uint32_t>(value));
}

void BigCount::trim() {
  while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
}

BigCount& BigCount::operator+=(const BigCount& other) {
  limbs_.resize(std::max(limbs_.size(), other.limbs_.size()) + 1, 0);
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    carry += limbs_[i];
    if (i < other.limbs_.size()) carry += other.limbs_[i];
    limbs_[i] = static_cast<std::uint32_t>(carry);
    carry >>= 32;
  }
  trim();
  return *this;
}

BigCount& BigCount::operator-=(const BigCount& other) {
  if (other >= *this) {
    limbs_.clear();
    return *this;
  }
  std::int64_t borrow = 0;
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    std::int64_t rest = static_cast<std::int64_t>(limbs_[i]) - borrow;
    if (i < other.limbs_.size()) rest -= other.limbs_[i];
    borrow = rest < 0 ? 1 : 0;
    limbs_[i] = static_cast<std::uint32_t>(rest + (borrow << 32));
  }
  trim();
  return *this;
}

BigCount& BigCount::operator*=(std::uint64_t factor) {
  unsigned __int128 carry = 0;
  for (std::uint32_t& limb : limbs_) {
    carry += static_cast<unsigned __int128>(limb) * factor;
    limb = static_cast<std::uint32_t>(carry);
    carry >>= 32;
  }
  for (; carry > 0; carry >>= 32) limbs_.push_back(static_cast<std::uint32_t>(carry));
  trim();
  return *this;
}

std::strong_ordering BigCount::operator<=>(const BigCount& other) const {
  if (limbs_.size() != other.limbs_.size()) return limbs_.size() <=> other.limbs_.size();
  for (std::size_t i = limbs_.size(); i-- > 0;) {
    if (limbs_[i] != other.limbs_[i]) return limbs_[i] <=> other.limbs_[i];
  }
  return std::strong_ordering::equal;
}

std::string BigCount::text() const {
  if (limbs_.empty()) return "0";
  std::string digits;
  for (BigCount rest = *this; !rest.limbs_.empty(); rest.trim()) {
    std::uint64_t remainder = 0;
    for (std::size_t i = rest.limbs_.size(); i-- > 0;) {
      remainder = remainder << 32 | rest.limbs_[i];
      rest.limbs_[i] = static_cast<std::uint32_t>(remainder / 10);
      remainder %= 10;
    }
    digits.push_back(static_cast<char>('0' + static_cast<int>(remainder)));
  }
  return {digits.rbegin(), digits.rend()};
}

double BigCount::value() const {
  double value = 0;
  for (std::size_t i = limbs_.size(); i-- > 0;) value = value * 4294967296.0 + limbs_[i];
  return value;
}

}  // namespace imhotep::planner
