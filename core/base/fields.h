#pragma once
// One field list a struct, read by JSON, schemas, help texts and forms:
//
//   struct Gpu {
//     std::string name;
//     std::int64_t memory_bytes = 0;
//     template <class Self, class Visitor>
//     static void fields(Self& s, Visitor& visit) {
//       visit("name", s.name, {.help = "as the vendor writes it"});
//       visit("memory_bytes", s.memory_bytes, {.help = "device memory", .minimum = 1});
//     }
//   };
//
// A visitor is called as visit(name, value, note). Readers and writers: core/base/json_fields.h.

#include <limits>
#include <string>
#include <string_view>

namespace imhotep {

struct FieldNote {
  const char* help = "";
  bool optional = false;  // may be absent: the struct's initial value stays
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
};

// A value written as text that only its own type can read, such as an expert list "32x10,64x2".
template <class T>
concept TextValue = requires(const T& value, std::string_view text) {
  { value.text() } -> std::convertible_to<std::string>;
  { T::parse(text) } -> std::convertible_to<T>;
};

namespace detail {
struct AnyVisitor {
  template <class T>
  void operator()(const char*, T&&, FieldNote = {}) const {}
};
}  // namespace detail

template <class T>
concept FieldStruct = requires(T& value, detail::AnyVisitor visit) {
  T::fields(value, visit);
};

}  // namespace imhotep
