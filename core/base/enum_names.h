#pragma once
// One list of names an enumeration, for JSON, command line and messages.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace imhotep {

// Specialise with: static const std::vector<std::pair<E, std::string>>& list();
template <class E>
struct EnumNames;

template <class E>
concept NamedEnum = requires {
  EnumNames<E>::list();
};

template <NamedEnum E>
[[nodiscard]] std::string name_of(E value) {
  for (const auto& [candidate, name] : EnumNames<E>::list()) {
    if (candidate == value) return name;
  }
  return "?";
}

template <NamedEnum E>
[[nodiscard]] std::vector<std::string> names_of() {
  std::vector<std::string> names;
  for (const auto& [value, name] : EnumNames<E>::list()) names.push_back(name);
  return names;
}

// False when `name` is not in the list.
template <NamedEnum E>
[[nodiscard]] bool parse_enum(std::string_view name, E& value) {
  for (const auto& [candidate, known] : EnumNames<E>::list()) {
    if (known == name) {
      value = candidate;
      return true;
    }
  }
  return false;
}

}  // namespace imhotep

#define IMHOTEP_ENUM_NAMES(Type, ...)                                               \
  template <>                                                                       \
  struct imhotep::EnumNames<Type> {                                                 \
    static const std::vector<std::pair<Type, std::string>>& list() {                \
      static const std::vector<std::pair<Type, std::string>> names = {__VA_ARGS__}; \
      return names;                                                                 \
    }                                                                               \
  };
