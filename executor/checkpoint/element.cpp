#include "executor/checkpoint/element.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/fail.h"
#include "core/base/random.h"

namespace imhotep::executor {
namespace {

struct Half {
  std::uint16_t bits = 0;
};
struct Brain {
  std::uint16_t bits = 0;
};

double value_of(float x) { return x; }
double value_of(double x) { return x; }
double value_of(Brain x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }
double value_of(Half x) {
  const int sign = x.bits >> 15, exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  double size = 0;
  if (exponent == 31) {
    size = fraction == 0 ? HUGE_VAL : std::nan("");
  } else if (exponent == 0) {
    size = std::ldexp(fraction, -24);
  } else {
    size = std::ldexp(1024 + fraction, exponent - 25);
  }
  return sign == 1 ? -size : size;
}

void store(double value, float& out) { out = static_cast<float>(value); }
void store(double value, double& out) { out = value; }
void store(double value, Brain& out) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  const std::uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
  out.bits = static_cast<std::uint16_t>((nan ? bits | 0x400000 : rounded) >> 16);
}

template <class From, class To>
void convert_all(const void* source, void* target, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    From from;
    To to;
    std::memcpy(&from, static_cast<const char*>(source) + i * sizeof from, sizeof from);
    store(value_of(from), to);
    std::memcpy(static_cast<char*>(target) + i * sizeof to, &to, sizeof to);
  }
}

template <class From>
void convert_from(const void* source, void* target, Dtype to, std::int64_t count) {
  if (to == Dtype::F32) {
    convert_all<From, float>(source, target, count);
  } else if (to == Dtype::F64) {
    convert_all<From, double>(source, target, count);
  } else {
    convert_all<From, Brain>(source, target, count);
  }
}

template <class Word>
std::uint64_t sum_words(std::uint64_t key, const void* elements, std::int64_t count) {
  constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15ULL;  // odd: every place gets its own key
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    Word word = 0;
    std::memcpy(&word, static_cast<const char*>(elements) + i * sizeof word, sizeof word);
    sum += mix64(word + key);
    key += kStep;
  }
  return sum;
}

}  // namespace

std::int64_t bytes_of(ElementType type) {
  switch (type) {
    case ElementType::Bool:
    case ElementType::U8:
    case ElementType::I8:
    case ElementType::F8E5M2:
    case ElementType::F8E4M3:
      return 1;
    case ElementType::I16:
    case ElementType::U16:
    case ElementType::F16:
    case ElementType::Bf16:
      return 2;
    case ElementType::I32:
    case ElementType::U32:
    case ElementType::F32:
      return 4;
    case ElementType::F64:
    case ElementType::I64:
    case ElementType::U64:
      return 8;
  }
  return 0;
}

ElementType element_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
      return ElementType::F32;
    case Dtype::F64:
      return ElementType::F64;
    case Dtype::Bf16:
      return ElementType::Bf16;
    case Dtype::I32:
      return ElementType::I32;
  }
  fail("unknown element type {}", static_cast<int>(dtype));
}

bool convertible(ElementType from, Dtype to) {
  if (from == element_type(to)) return true;
  const bool real = from == ElementType::F32 || from == ElementType::F64 ||
                    from == ElementType::Bf16 || from == ElementType::F16;
  return real && to != Dtype::I32;
}

void convert(const void* source, ElementType from, void* target, Dtype to, std::int64_t count) {
  if (from == element_type(to)) {
    std::memcpy(target, source, static_cast<std::size_t>(count * bytes_of(from)));
  } else if (from == ElementType::F32) {
    convert_from<float>(source, target, to, count);
  } else if (from == ElementType::F64) {
    convert_from<double>(source, target, to, count);
  } else if (from == ElementType::Bf16) {
    convert_from<Brain>(source, target, to, count);
  } else {
    convert_from<Half>(source, target, to, count);
  }
}

std::uint64_t checksum(std::uint64_t name_hash, std::int64_t first, const void* elements,
                       std::int64_t count, std::int64_t element_bytes) {
  const std::uint64_t key = name_hash + static_cast<std::uint64_t>(first) * 0x9E3779B97F4A7C15ULL;
  switch (element_bytes) {
    case 1:
      return sum_words<std::uint8_t>(key, elements, count);
    case 2:
      return sum_words<std::uint16_t>(key, elements, count);
    case 4:
      return sum_words<std::uint32_t>(key, elements, count);
    default:
      return sum_words<std::uint64_t>(key, elements, count);
  }
}

}  // namespace imhotep::executor
