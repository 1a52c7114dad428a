// Recursive descent that computes as it reads. Both sides of "and", "or" and "if" are read; in the
// side that does not count nothing is raised.

#include "executor/serve/template_expression.h"

#include <algorithm>
#include <utility>

namespace imhotep::executor {
namespace {

using Kind = Value::Kind;

constexpr int kDeepest = 100;

bool contains(const Value& whole, const Value& part) {
  if (whole.kind == Kind::Text) return whole.text.find(part.text) != std::string::npos;
  if (whole.kind == Kind::Map) return whole.map->count(part.text) > 0;
  if (whole.kind != Kind::List) return false;
  return std::find(whole.list->begin(), whole.list->end(), part) != whole.list->end();
}

class Evaluator {
 public:
  Evaluator(const std::vector<Word>& words, std::size_t& at, const Scope& scope)
      : words_(words), at_(at), scope_(scope) {}

  Value conditional() {
    if (++depth_ > kDeepest) throw TemplateError("the expression nests too deeply");
    // The value comes before its condition: what it raises waits until the condition is known.
    const std::string raised_before = std::exchange(raised_, {});
    Value value = either();
    if (take_name("if")) {
      const std::string raised = std::exchange(raised_, {});
      const bool holds = either().is_true();
      Value other;
      std::string other_raised;
      if (take_name("else")) {
        const std::string condition_raised = std::exchange(raised_, {});
        other = conditional();
        other_raised = std::exchange(raised_, condition_raised);
      }
      if (raised_.empty()) raised_ = holds ? raised : other_raised;
      if (!holds) value = other;
    }
    if (!raised_before.empty()) raised_ = raised_before;
    --depth_;
    return value;
  }
  [[nodiscard]] const std::string& raised() const { return raised_; }

 private:
  [[nodiscard]] const Word& word() const { return words_[at_]; }
  bool take_sign(const char* sign) {
    if (word().kind != Word::Kind::Sign || word().text != sign) return false;
    ++at_;
    return true;
  }
  bool take_name(const char* name) {
    if (word().kind != Word::Kind::Name || word().text != name) return false;
    ++at_;
    return true;
  }
  void expect_sign(const char* sign) {
    if (!take_sign(sign)) {
      throw TemplateError(std::string("expected \"") + sign + "\" before \"" + word().text + "\"");
    }
  }
  std::string name() {
    if (word().kind != Word::Kind::Name) throw TemplateError("expected a name");
    return words_[at_++].text;
  }

  // The right side, whose errors count only where `counts`.
  template <class Read>
  Value guarded(bool counts, Read&& read) {
    const std::string before = raised_;
    Value value = read();
    if (!counts) raised_ = before;
    return value;
  }

  Value either() {
    Value left = both();
    while (take_name("or")) {
      const bool decided = left.is_true();
      Value right = guarded(!decided, [&] { return both(); });
      if (!decided) left = right;
    }
    return left;
  }

  Value both() {
    Value left = negation();
    while (take_name("and")) {
      const bool decided = !left.is_true();
      Value right = guarded(!decided, [&] { return negation(); });
      if (!decided) left = right;
    }
    return left;
  }

  Value negation() {
    if (take_name("not")) return Value::of(!negation().is_true());
    return comparison();
  }

  Value comparison() {
    Value left = sum();
    for (;;) {
      if (take_sign("==")) {
        left = Value::of(left == sum());
      } else if (take_sign("!=")) {
        left = Value::of(!(left == sum()));
      } else if (take_sign("<=")) {
        left = Value::of(order(left, sum()) <= 0);
      } else if (take_sign(">=")) {
        left = Value::of(order(left, sum()) >= 0);
      } else if (take_sign("<")) {
        left = Value::of(order(left, sum()) < 0);
      } else if (take_sign(">")) {
        left = Value::of(order(left, sum()) > 0);
      } else if (take_name("in")) {
        left = Value::of(contains(sum(), left));
      } else if (word().text == "not" && word().kind == Word::Kind::Name &&
                 words_[at_ + 1].text == "in") {
        at_ += 2;
        left = Value::of(!contains(sum(), left));
      } else if (take_name("is")) {
        const bool negated = take_name("not");
        left = Value::of(template_test(left, name()) != negated);
      } else {
        return left;
      }
    }
  }

  static int order(const Value& a, const Value& b) {
    if (a.kind == Kind::Text && b.kind == Kind::Text) return a.text.compare(b.text);
    return a.number < b.number ? -1 : a.number > b.number ? 1 : 0;
  }

  Value sum() {
    Value left = product();
    for (;;) {
      if (take_sign("+")) {
        const Value right = product();
        if (left.kind == Kind::Text || right.kind == Kind::Text) {
          left = Value::of(left.printed() + right.printed());
        } else if (left.kind == Kind::List && right.kind == Kind::List) {
          Value::List all = *left.list;
          all.insert(all.end(), right.list->begin(), right.list->end());
          left = Value::of(std::move(all));
        } else {
          left = Value::of(left.number + right.number);
        }
      } else if (take_sign("~")) {
        left = Value::of(left.printed() + product().printed());
      } else if (take_sign("-")) {
        left = Value::of(left.number - product().number);
      } else {
        return left;
      }
    }
  }

  Value product() {
    Value left = postfix();
    for (;;) {
      if (take_sign("*")) {
        left = Value::of(left.number * postfix().number);
      } else if (take_sign("%")) {
        const std::int64_t by = postfix().number;
        if (by == 0) throw TemplateError("division by zero");
        left = Value::of(((left.number % by) + by) % by);
      } else {
        return left;
      }
    }
  }

  Value postfix() {
    if (take_sign("-")) return Value::of(-postfix().number);
    Value value = primary();
    for (;;) {
      if (take_sign(".")) {
        const std::string field = name();
        value = take_sign("(") ? template_method(value, field, arguments())
                               : attribute_of(value, field);
      } else if (take_sign("[")) {
        value = indexed(value);
      } else if (take_sign("|")) {
        const std::string what = name();
        value = template_filter(value, what, take_sign("(") ? arguments() : Value::List{});
      } else {
        return value;
      }
    }
  }

  Value indexed(const Value& value) {
    std::int64_t begin = 0, end = value.kind >= Kind::Text ? value.length() : 0;
    const std::int64_t length = end;
    const bool slices_from_start = word().text == ":" && word().kind == Word::Kind::Sign;
    const Value first = slices_from_start ? Value() : conditional();
    if (!take_sign(":")) {
      expect_sign("]");
      if (first.kind == Kind::Text) return attribute_of(value, first.text);
      const std::int64_t at = first.number < 0 ? first.number + length : first.number;
      if (value.kind != Kind::List || at < 0 || at >= length) return {};
      return (*value.list)[at];
    }
    const auto bound = [&](const Value& given, std::int64_t otherwise) {
      if (given.kind != Kind::Int) return otherwise;
      return std::clamp(given.number < 0 ? given.number + length : given.number, std::int64_t{0},
                        length);
    };
    begin = bound(first, 0);
    if (word().text != "]" && word().text != ":") end = bound(conditional(), length);
    const bool reversed = take_sign(":");
    if (reversed) {  // only [::-1] is in use
      if (conditional().number != -1 || begin != 0 || end != length) {
        throw TemplateError("a slice may have no step but -1");
      }
    }
    expect_sign("]");
    end = std::max(begin, end);
    if (value.kind == Kind::Text) return Value::of(value.text.substr(begin, end - begin));
    if (value.kind != Kind::List) return {};
    Value::List part(value.list->begin() + begin, value.list->begin() + end);
    if (reversed) std::reverse(part.begin(), part.end());
    return Value::of(std::move(part));
  }

  // Named ones come as a map at the end.
  Value::List arguments() {
    Value::List list;
    Value::Map named;
    while (!take_sign(")")) {
      if (word().kind == Word::Kind::Name && words_[at_ + 1].text == "=" &&
          words_[at_ + 1].kind == Word::Kind::Sign) {
        const std::string key = name();
        ++at_;
        named[key] = conditional();
      } else {
        list.push_back(conditional());
      }
      if (!take_sign(",") && word().text != ")") expect_sign(")");
    }
    if (!named.empty()) list.push_back(Value::of(std::move(named)));
    return list;
  }

  Value primary() {
    const Word start = word();
    if (take_sign("(")) {
      Value value = conditional();
      expect_sign(")");
      return value;
    }
    if (take_sign("[")) {
      Value::List list;
      while (!take_sign("]")) {
        list.push_back(conditional());
        if (!take_sign(",") && word().text != "]") expect_sign("]");
      }
      return Value::of(std::move(list));
    }
    ++at_;
    if (start.kind == Word::Kind::Text) return Value::of(start.text);
    if (start.kind == Word::Kind::Int) {
      if (start.text.size() > 15) throw TemplateError("the number " + start.text + " is too large");
      return Value::of(static_cast<std::int64_t>(std::stoll(start.text)));
    }
    if (start.kind != Word::Kind::Name) throw TemplateError("unexpected \"" + start.text + "\"");
    return named(start.text);
  }

  Value named(const std::string& what) {
    if (what == "true" || what == "True") return Value::of(true);
    if (what == "false" || what == "False") return Value::of(false);
    if (what == "none" || what == "None") return Value::none();
    if (take_sign("(")) {
      const Value::List given = arguments();
      if (what == "raise_exception") {
        raised_ = given.empty() || given[0].text.empty() ? "raised by the template" : given[0].text;
        return {};
      }
      if (what == "namespace") {
        return Value::of(given.empty() ? Value::Map{} : Value::Map(*given.back().map));
      }
      throw TemplateError("unknown function " + what + "()");
    }
    const auto entry = scope_.find(what);
    return entry == scope_.end() ? Value() : entry->second;
  }

  const std::vector<Word>& words_;
  std::size_t& at_;
  const Scope& scope_;
  std::string raised_;
  int depth_ = 0;
};

}  // namespace

Value evaluate(const std::vector<Word>& words, std::size_t& at, const Scope& scope) {
  Evaluator evaluator(words, at, scope);
  Value value = evaluator.conditional();
  if (!evaluator.raised().empty()) throw TemplateError(evaluator.raised());
  return value;
}

}  // namespace imhotep::executor
