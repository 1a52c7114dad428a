#pragma once
// Values and expressions of chat templates. Internal to executor/serve.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executor/serve/chat_template.h"

namespace imhotep::executor {

struct Value {
  enum class Kind : std::uint8_t { Undefined, None, Bool, Int, Text, List, Map };
  using List = std::vector<Value>;
  using Map = std::map<std::string, Value>;

  Kind kind = Kind::Undefined;
  std::int64_t number = 0;  // Bool and Int
  std::string text;
  std::shared_ptr<List> list;
  std::shared_ptr<Map> map;  // shared: a namespace is changed where it stands

  Value() = default;
  static Value none();
  static Value of(bool value);
  static Value of(std::int64_t value);
  static Value of(std::string value);
  static Value of(List values);
  static Value of(Map values);

  [[nodiscard]] bool is_true() const;
  [[nodiscard]] std::string printed() const;
  [[nodiscard]] std::int64_t length() const;  // Throws: TemplateError
  bool operator==(const Value& other) const;
};

struct Word {
  enum class Kind : std::uint8_t { Name, Int, Text, Sign, End };
  Kind kind = Kind::End;
  std::string text;
};
// Throws: TemplateError.
[[nodiscard]] std::vector<Word> words_of(std::string_view code);

using Scope = Value::Map;

// Evaluates words [at, ...) and moves `at` behind the expression. Throws: TemplateError.
[[nodiscard]] Value evaluate(const std::vector<Word>& words, std::size_t& at, const Scope& scope);

// Undefined where there is none.
[[nodiscard]] Value attribute_of(const Value& value, const std::string& name);
// All throw TemplateError for names that are not known.
[[nodiscard]] bool template_test(const Value& value, const std::string& name);
[[nodiscard]] Value template_filter(const Value& value, const std::string& name,
                                    const Value::List& given);
[[nodiscard]] Value template_method(const Value& value, const std::string& name,
                                    const Value::List& given);

}  // namespace imhotep::executor
