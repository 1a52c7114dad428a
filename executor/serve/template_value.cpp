#include <cctype>

#include "executor/serve/template_expression.h"

namespace imhotep::executor {

Value Value::none() {
  Value value;
  value.kind = Kind::None;
  return value;
}
Value Value::of(bool truth) {
  Value value;
  value.kind = Kind::Bool;
  value.number = truth ? 1 : 0;
  return value;
}
Value Value::of(std::int64_t number) {
  Value value;
  value.kind = Kind::Int;
  value.number = number;
  return value;
}
Value Value::of(std::string text) {
  Value value;
  value.kind = Kind::Text;
  value.text = std::move(text);
  return value;
}
Value Value::of(List values) {
  Value value;
  value.kind = Kind::List;
  value.list = std::make_shared<List>(std::move(values));
  return value;
}
Value Value::of(Map values) {
  Value value;
  value.kind = Kind::Map;
  value.map = std::make_shared<Map>(std::move(values));
  return value;
}

bool Value::is_true() const {
  switch (kind) {
    case Kind::Undefined:
    case Kind::None:
      return false;
    case Kind::Bool:
    case Kind::Int:
      return number != 0;
    case Kind::Text:
      return !text.empty();
    case Kind::List:
      return !list->empty();
    case Kind::Map:
      return !map->empty();
  }
  return false;
}

std::string Value::printed() const {
  switch (kind) {
    case Kind::Undefined:
      return "";
    case Kind::None:
      return "None";
    case Kind::Bool:
      return number != 0 ? "True" : "False";
    case Kind::Int:
      return std::to_string(number);
    case Kind::Text:
      return text;
    case Kind::List:
    case Kind::Map:
      break;
  }
  throw TemplateError("a list or an object cannot be printed");
}

std::int64_t Value::length() const {
  if (kind == Kind::Text) return static_cast<std::int64_t>(text.size());
  if (kind == Kind::List) return static_cast<std::int64_t>(list->size());
  if (kind == Kind::Map) return static_cast<std::int64_t>(map->size());
  throw TemplateError("this value has no length");
}

bool Value::operator==(const Value& other) const {
  const auto counts = [](Kind k) { return k == Kind::Bool || k == Kind::Int; };
  if (counts(kind) && counts(other.kind)) return number == other.number;
  if (kind != other.kind) return false;
  if (kind == Kind::Text) return text == other.text;
  if (kind == Kind::List) return *list == *other.list;
  if (kind == Kind::Map) return *map == *other.map;
  return true;
}

std::vector<Word> words_of(std::string_view code) {
  std::vector<Word> words;
  const auto is_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  for (std::size_t i = 0; i < code.size();) {
    const char c = code[i];
    if (std::isspace(static_cast<unsigned char>(c))) {
      ++i;
    } else if (c == '\'' || c == '"') {
      std::string text;
      for (++i; i < code.size() && code[i] != c; ++i) {
        if (code[i] != '\\' || i + 1 == code.size()) {
          text += code[i];
          continue;
        }
        const char escaped = code[++i];
        text += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped == 'r' ? '\r' : escaped;
      }
      if (i == code.size()) throw TemplateError("a text without an end quote");
      ++i;
      words.push_back({Word::Kind::Text, std::move(text)});
    } else if (is_name(c)) {
      std::size_t end = i;
      while (end < code.size() && is_name(code[end])) ++end;
      const bool number = std::isdigit(static_cast<unsigned char>(c)) != 0;
      words.push_back(
          {number ? Word::Kind::Int : Word::Kind::Name, std::string(code.substr(i, end - i))});
      i = end;
    } else {
      const std::string_view two = code.substr(i, 2);
      const bool pair = two == "==" || two == "!=" || two == "<=" || two == ">=";
      std::string sign(code.substr(i, pair ? 2 : 1));
      if (std::string_view("()[]{},.:+-~*%|<>=!").find(c) == std::string_view::npos) {
        throw TemplateError("unexpected sign \"" + sign + "\"");
      }
      i += sign.size();
      words.push_back({Word::Kind::Sign, std::move(sign)});
    }
  }
  words.push_back({});
  return words;
}

}  // namespace imhotep::executor
