#include "executor/serve/api_json.h"

#include <nlohmann/json.hpp>

#include "executor/data/utf8.h"

namespace imhotep::executor {
namespace {

constexpr int kDeepest = 64;

// Nesting of brackets outside strings.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kDeepest) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

ApiError wrong(const char* name, const std::string& expected) {
  return {400, fmt::format("{}: expected {}", name, expected), name};
}

}  // namespace

ApiJson parse_object(std::string_view body) {
  if (too_deep(body)) throw ApiError(400, "the body nests too deeply");
  ApiJson json = ApiJson::parse(body, nullptr, false);
  if (json.is_discarded()) throw ApiError(400, "the body is not valid JSON");
  if (!json.is_object()) throw ApiError(400, "the body: expected a JSON object");
  return json;
}

const ApiJson* Fields::find(const char* name) const {
  const auto entry = object_.find(name);
  return entry == object_.end() || entry->is_null() ? nullptr : &*entry;
}

std::optional<std::int64_t> Fields::integer(const char* name, std::int64_t least,
                                            std::int64_t most) const {
  const ApiJson* field = find(name);
  if (field == nullptr) return std::nullopt;
  const std::string range = fmt::format("a whole number from {} to {}", least, most);
  std::int64_t value = 0;
  if (field->is_number_unsigned()) {
    if (field->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
      throw wrong(name, range);
    }
    value = field->get<std::int64_t>();
  } else if (field->is_number_integer()) {
    value = field->get<std::int64_t>();
  } else if (field->is_number_float() && std::abs(field->get<double>()) < 1e15 &&
             std::floor(field->get<double>()) == field->get<double>()) {
    value = static_cast<std::int64_t>(field->get<double>());
  } else {
    throw wrong(name, range);
  }
  if (value < least || value > most) throw wrong(name, range + fmt::format(", got {}", value));
  return value;
}

std::optional<double> Fields::number(const char* name, double least, double most) const {
  const ApiJson* field = find(name);
  if (field == nullptr) return std::nullopt;
  const double value = field->is_number() ? field->get<double>() : NAN;
  if (!(value >= least && value <= most)) {
    throw wrong(name, fmt::format("a number from {} to {}", least, most));
  }
  return value;
}

bool Fields::boolean(const char* name, bool otherwise) const {
  const ApiJson* field = find(name);
  if (field == nullptr) return otherwise;
  if (!field->is_boolean()) throw wrong(name, "true or false");
  return field->get<bool>();
}

std::optional<std::string> Fields::text(const char* name) const {
  const ApiJson* field = find(name);
  if (field == nullptr) return std::nullopt;
  if (!field->is_string()) throw wrong(name, "a text");
  return field->get<std::string>();
}

void Fields::refuse_unless(const char* name, const char* neutral) const {
  const ApiJson* field = find(name);
  if (field == nullptr) return;
  const ApiJson nothing = ApiJson::parse(neutral);
  if (*field == nothing || (field->empty() && nothing.empty())) return;
  throw ApiError(400, fmt::format("{}: this server has no such feature; leave it out", name), name,
                 "unsupported_parameter");
}

std::string printable(std::string_view bytes) { return repair_utf8(std::string(bytes)).text; }

}  // namespace imhotep::executor
