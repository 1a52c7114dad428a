#pragma once
// Reads, writes and describes (JSON Schema) any struct with a field list (core/base/fields.h).
// Unknown keys are refused with the nearest known one; numbers are checked against their note.
// Heavy: include from .cpp files only.

#include <fmt/format.h>

#include <cmath>
#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/enum_names.h"
#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/json_document.h"
#include "core/base/units.h"

namespace imhotep {

using Json = nlohmann::ordered_json;

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsMap : std::false_type {};
template <class T>
struct IsMap<std::map<std::string, T>> : std::true_type {};

class FieldReader {
 public:
  FieldReader(const JsonDocument& document, const Json& node, std::string path)
      : document_(document), node_(node), path_(std::move(path)) {
    if (!node_.is_object()) document_.fail_at(path_, "expected an object, got " + shown(node_));
  }

  template <class T>
  void operator()(const char* name, T& value, FieldNote note = {}) {
    known_.emplace_back(name);
    const auto found = node_.find(name);
    if (found == node_.end()) {
      if (!note.optional) document_.fail_at(path_, fmt::format("key \"{}\" is missing", name));
      return;
    }
    read(*found, path_ + "." + name, value, note);
  }

  void refuse_unknown() const {
    for (const auto& [key, value] : node_.items()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      const std::string near = nearest(key, known_);
      document_.fail_at(
          path_ + "." + key,
          near.empty() ? "unknown key" : fmt::format("unknown key (did you mean \"{}\"?)", near));
    }
  }

  template <class T>
  void read(const Json& node, const std::string& path, T& value, const FieldNote& note) const {
    if constexpr (IsOptional<T>::value) {
      if (node.is_null()) {
        value.reset();
      } else {
        read(node, path, value.emplace(), note);
      }
    } else if constexpr (IsVector<T>::value) {
      if (!node.is_array()) refuse(path, "an array", node);
      value.clear();
      for (std::size_t i = 0; i < node.size(); ++i) {
        read(node[i], fmt::format("{}[{}]", path, i), value.emplace_back(), note);
      }
    } else if constexpr (IsMap<T>::value) {
      if (!node.is_object()) refuse(path, "an object", node);
      value.clear();
      for (const auto& [key, item] : node.items()) read(item, path + "." + key, value[key], note);
    } else if constexpr (NamedEnum<T>) {
      if (!node.is_string() || !parse_enum(node.get<std::string>(), value)) {
        refuse(path, fmt::format("one of {}", fmt::join(names_of<T>(), ", ")), node);
      }
    } else if constexpr (TextValue<T>) {
      read_text(node, path, value);
    } else if constexpr (FieldStruct<T>) {
      FieldReader reader(document_, node, path);
      T::fields(value, reader);
      reader.refuse_unknown();
    } else {
      read_plain(node, path, value, note);
    }
  }

 private:
  static std::string shown(const Json& node) {
    const std::string text = node.dump();
    return text.size() <= 60 ? text : text.substr(0, 57) + "...";
  }
  [[noreturn]] void refuse(const std::string& path, const std::string& expected,
                           const Json& node) const {
    document_.fail_at(path, fmt::format("expected {}, got {}", expected, shown(node)));
  }

  template <class T>
  void read_text(const Json& node, const std::string& path, T& value) const {
    if (!node.is_string()) refuse(path, "a string", node);
    try {
      value = T::parse(node.get<std::string>());
    } catch (const Error& error) {
      document_.fail_at(path, error.what());
    }
  }

  template <class T>
  void read_plain(const Json& node, const std::string& path, T& value,
                  const FieldNote& note) const {
    if constexpr (std::same_as<T, bool>) {
      if (!node.is_boolean()) refuse(path, "true or false", node);
      value = node.get<bool>();
    } else if constexpr (std::same_as<T, std::string>) {
      if (!node.is_string()) refuse(path, "a string", node);
      value = node.get<std::string>();
    } else {
      constexpr bool whole = std::integral<T>;
      std::string expected = whole ? "an integer" : "a number";
      if (std::isfinite(note.minimum)) expected += fmt::format(" >= {}", note.minimum);
      if (std::isfinite(note.maximum)) expected += fmt::format(" <= {}", note.maximum);
      if (!(whole ? node.is_number_integer() : node.is_number())) refuse(path, expected, node);
      const double number = node.get<double>();
      if (number < note.minimum || number > note.maximum) refuse(path, expected, node);
      if constexpr (whole) {
        const bool fits = node.is_number_unsigned() ? std::in_range<T>(node.get<std::uint64_t>())
                                                    : std::in_range<T>(node.get<std::int64_t>());
        if (!fits) refuse(path, expected + " of " + std::to_string(8 * sizeof(T)) + " bits", node);
      }
      value = node.get<T>();
    }
  }

  const JsonDocument& document_;
  const Json& node_;
  std::string path_;
  std::vector<std::string> known_;
};

template <class T>
[[nodiscard]] Json json_of(const T& value) {
  if constexpr (IsOptional<T>::value) {
    return value ? json_of(*value) : Json(nullptr);
  } else if constexpr (IsVector<T>::value) {
    Json array = Json::array();
    for (const auto& item : value) array.push_back(json_of(item));
    return array;
  } else if constexpr (IsMap<T>::value) {
    Json object = Json::object();
    for (const auto& [key, item] : value) object[key] = json_of(item);
    return object;
  } else if constexpr (NamedEnum<T>) {
    return name_of(value);
  } else if constexpr (TextValue<T>) {
    return value.text();
  } else if constexpr (FieldStruct<T>) {
    Json object = Json::object();
    auto write = [&](const char* name, const auto& field, FieldNote = {}) {
      object[name] = json_of(field);
    };
    T::fields(value, write);
    return object;
  } else {
    return Json(value);
  }
}

// JSON Schema (draft 7) of a field list.
template <class T>
[[nodiscard]] Json schema_of(const FieldNote& note = {}) {
  Json schema = Json::object();
  if constexpr (IsOptional<T>::value) {
    schema["anyOf"] = Json::array({schema_of<typename T::value_type>(), {{"type", "null"}}});
  } else if constexpr (IsVector<T>::value) {
    schema["type"] = "array";
    schema["items"] = schema_of<typename T::value_type>(FieldNote{.minimum = note.minimum});
  } else if constexpr (IsMap<T>::value) {
    schema["type"] = "object";
    schema["additionalProperties"] = schema_of<typename T::mapped_type>();
  } else if constexpr (NamedEnum<T>) {
    schema["enum"] = names_of<T>();
  } else if constexpr (TextValue<T>) {
    schema["type"] = "string";
  } else if constexpr (FieldStruct<T>) {
    schema["type"] = "object";
    schema["additionalProperties"] = false;
    Json properties = Json::object(), required = Json::array();
    const T sample{};
    auto describe = [&]<class F>(const char* name, const F&, FieldNote field = {}) {
      properties[name] = schema_of<F>(field);
      if (!field.optional) required.push_back(name);
    };
    T::fields(sample, describe);
    schema["properties"] = properties;
    schema["required"] = required;
  } else if constexpr (std::same_as<T, bool>) {
    schema["type"] = "boolean";
  } else if constexpr (std::same_as<T, std::string>) {
    schema["type"] = "string";
  } else {
    schema["type"] = std::integral<T> ? "integer" : "number";
    if (std::isfinite(note.minimum)) schema["minimum"] = note.minimum;
    if (std::isfinite(note.maximum)) schema["maximum"] = note.maximum;
  }
  if (note.help[0] != '\0') schema["description"] = note.help;
  return schema;
}

// Reads a whole document. `schema` is the value its "schema" key must have, "imhotep.plan/1".
template <FieldStruct T>
[[nodiscard]] T read_document(const JsonDocument& document, const std::string& schema) {
  Json body = document.value();
  if (!body.is_object()) document.fail_at("$", "expected an object");
  const auto tag = body.find("schema");
  if (tag == body.end()) {
    document.fail_at("$", fmt::format("key \"schema\" is missing (expected \"{}\")", schema));
  }
  if (*tag != schema) {
    document.fail_at("$.schema", fmt::format("expected \"{}\", got {}", schema, tag->dump()));
  }
  body.erase("schema");
  T value{};
  FieldReader reader(document, body, "$");
  T::fields(value, reader);
  reader.refuse_unknown();
  return value;
}

template <FieldStruct T>
[[nodiscard]] Json document_of(const T& value, const std::string& schema) {
  Json body = Json::object();
  body["schema"] = schema;
  const Json fields = json_of(value);  // named: items() refers to it
  for (const auto& [key, item] : fields.items()) body[key] = item;
  return body;
}

template <FieldStruct T>
[[nodiscard]] Json document_schema_of(const std::string& schema) {
  Json body = schema_of<T>();
  Json properties = {{"schema", {{"const", schema}}}};
  for (auto& [key, item] : body["properties"].items()) properties[key] = item;
  body["properties"] = properties;
  body["required"].push_back("schema");
  Json out = {{"$schema", "http://json-schema.org/draft-07/schema#"}, {"title", schema}};
  for (auto& [key, item] : body.items()) out[key] = item;
  return out;
}

}  // namespace imhotep
