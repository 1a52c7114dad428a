// What templates call: methods of texts, filters and tests.

#include <algorithm>

#include "executor/serve/template_expression.h"

namespace imhotep::executor {
namespace {

using Kind = Value::Kind;

std::string stripped(std::string text, bool left, bool right) {
  constexpr const char* kBlanks = " \t\r\n\v\f";
  if (left) text.erase(0, std::min(text.find_first_not_of(kBlanks), text.size()));
  if (right) text.erase(text.find_last_not_of(kBlanks) + 1);
  return text;
}

std::string cased(std::string text, bool upper) {
  for (char& c : text) {
    if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

Value attribute_of(const Value& value, const std::string& field) {
  if (value.kind != Kind::Map) return {};
  const auto entry = value.map->find(field);
  return entry == value.map->end() ? Value() : entry->second;
}

bool template_test(const Value& value, const std::string& what) {
  if (what == "defined") return value.kind != Kind::Undefined;
  if (what == "undefined") return value.kind == Kind::Undefined;
  if (what == "none") return value.kind == Kind::None;
  if (what == "string") return value.kind == Kind::Text;
  if (what == "mapping") return value.kind == Kind::Map;
  if (what == "iterable") return value.kind >= Kind::Text;
  if (what == "sequence") return value.kind == Kind::List || value.kind == Kind::Text;
  if (what == "number") return value.kind == Kind::Int;
  if (what == "true") return value.kind == Kind::Bool && value.number != 0;
  if (what == "false") return value.kind == Kind::Bool && value.number == 0;
  if (what == "odd") return value.number % 2 != 0;
  if (what == "even") return value.number % 2 == 0;
  throw TemplateError("unknown test \"" + what + "\"");
}

Value template_method(const Value& value, const std::string& what, const Value::List& given) {
  const std::string first = given.empty() ? "" : given[0].text;
  if (value.kind == Kind::Map && what == "get") {
    Value found = attribute_of(value, first);
    if (found.kind != Kind::Undefined) return found;
    return given.size() > 1 ? given[1] : Value::none();
  }
  if (value.kind != Kind::Text) throw TemplateError("." + what + "() of what is no text");
  if (what == "strip" && given.empty()) return Value::of(stripped(value.text, true, true));
  if (what == "lstrip" && given.empty()) return Value::of(stripped(value.text, true, false));
  if (what == "rstrip" && given.empty()) return Value::of(stripped(value.text, false, true));
  if (what == "upper") return Value::of(cased(value.text, true));
  if (what == "lower") return Value::of(cased(value.text, false));
  if (what == "startswith") return Value::of(value.text.starts_with(first));
  if (what == "endswith") return Value::of(value.text.ends_with(first));
  throw TemplateError("unknown method ." + what + "()");
}

Value template_filter(const Value& value, const std::string& what, const Value::List& given) {
  if (what == "trim") return Value::of(stripped(value.printed(), true, true));
  if (what == "upper") return Value::of(cased(value.printed(), true));
  if (what == "lower") return Value::of(cased(value.printed(), false));
  if (what == "length" || what == "count") return Value::of(value.length());
  if (what == "string") return Value::of(value.printed());
  if (what == "list" && value.kind == Kind::List) return value;
  if (what == "first" || what == "last") {
    if (value.kind != Kind::List || value.list->empty()) return {};
    return what == "first" ? value.list->front() : value.list->back();
  }
  if (what == "default" && !given.empty()) {
    return value.kind == Kind::Undefined ? given[0] : value;
  }
  throw TemplateError("unknown filter \"" + what + "\"");
}

}  // namespace imhotep::executor
