// Statements: the source becomes a list of texts, prints and tags; blocks are walked by position.

#include "executor/serve/chat_template.h"

#include <algorithm>

#include "executor/serve/template_expression.h"

namespace imhotep::executor {
namespace {

constexpr std::size_t kLongestOutput = std::size_t{1} << 24;

struct Part {
  enum class Kind : std::uint8_t { Text, Print, Tag };
  Kind kind = Kind::Text;
  std::string text;
  std::vector<Word> words;
};

// trim_blocks: the line end after a tag goes; lstrip_blocks: so do blanks before a tag that
// begins its line. "-" takes all white space on its side.
std::vector<Part> parts_of(const std::string& source) {
  std::vector<Part> parts;
  std::size_t at = 0;
  bool trims_next = false, line_end_goes = false;
  while (at <= source.size()) {
    std::size_t open = at;
    do {
      open = std::min(source.find('{', open), source.size());
      if (open + 1 < source.size() &&
          std::string("{%#").find(source[open + 1]) != std::string::npos)
        break;
      if (open < source.size()) ++open;
    } while (open < source.size());
    std::string text = source.substr(at, open - at);
    if (line_end_goes && text.starts_with('\n')) text.erase(0, 1);
    if (trims_next) text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    const bool ends = open == source.size();
    const char kind = ends ? ' ' : source[open + 1];
    const bool trims_before = !ends && open + 2 < source.size() && source[open + 2] == '-';
    if (trims_before) {
      text.erase(text.find_last_not_of(" \t\r\n") + 1);
    } else if (kind == '%' || kind == '#') {
      const std::size_t line = text.find_last_not_of(" \t") + 1;
      const bool starts_source = line == 0 && (parts.empty() || line_end_goes);
      if (starts_source || (line > 0 && text[line - 1] == '\n')) text.erase(line);
    }
    if (!text.empty()) parts.push_back({Part::Kind::Text, std::move(text), {}});
    if (ends) break;
    const char* close = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    std::size_t end = source.find(close, open + 2);
    if (end == std::string::npos) throw TemplateError(std::string("a tag without ") + close);
    at = end + 2;
    trims_next = source[end - 1] == '-' && end > open + 2;
    line_end_goes = kind != '{';
    if (kind == '#') continue;
    const std::size_t begin = open + 2 + (trims_before ? 1 : 0);
    const std::string code =
        source.substr(begin, std::max(end - (trims_next ? 1 : 0), begin) - begin);
    parts.push_back({kind == '{' ? Part::Kind::Print : Part::Kind::Tag, "", words_of(code)});
  }
  return parts;
}

class Renderer {
 public:
  Renderer(const std::vector<Part>& parts, Scope scope) : parts_(parts), scope_(std::move(scope)) {}

  std::string render() {
    std::size_t at = 0;
    block(at, true);
    if (at < parts_.size()) throw TemplateError("unexpected " + tag(at));
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::string tag(std::size_t at) const {
    return at < parts_.size() && parts_[at].kind == Part::Kind::Tag ? parts_[at].words[0].text : "";
  }
  Value value_at(std::size_t part, std::size_t word) const {
    const std::vector<Word>& words = parts_[part].words;
    std::size_t at = word;
    Value value = evaluate(words, at, scope_);
    if (words[at].kind != Word::Kind::End)
      throw TemplateError("unexpected \"" + words[at].text + "\"");
    return value;
  }

  // Walks until a tag that belongs to an outer block; prints where `active`.
  void block(std::size_t& at, bool active) {
    while (at < parts_.size()) {
      const Part& part = parts_[at];
      if (part.kind == Part::Kind::Tag) {
        const std::string name = tag(at);
        if (name == "for") {
          loop(at, active);
        } else if (name == "if") {
          choice(at, active);
        } else if (name == "set") {
          if (active) assign(at);
          ++at;
        } else if (name == "generation" || name == "endgeneration") {
          ++at;  // marks what is trained on
        } else if (name == "elif" || name == "else" || name == "endif" || name == "endfor") {
          return;
        } else {
          throw TemplateError("unknown tag \"" + name + "\"");
        }
        continue;
      }
      if (active) out_ += part.kind == Part::Kind::Text ? part.text : value_at(at, 0).printed();
      if (out_.size() > kLongestOutput) throw TemplateError("the prompt is too long");
      ++at;
    }
  }

  void choice(std::size_t& at, bool active) {
    bool open = active;
    for (;;) {
      const std::string name = tag(at);
      const bool holds = open && (name == "else" || value_at(at, 1).is_true());
      ++at;
      block(at, holds);
      if (holds) open = false;
      const std::string next = tag(at);
      if (next == "endif") break;
      if ((next != "elif" && next != "else") || name == "else")
        throw TemplateError("if without endif");
    }
    ++at;
  }

  void loop(std::size_t& at, bool active) {
    const std::vector<Word>& words = parts_[at].words;
    if (words.size() < 4 || words[2].text != "in")
      throw TemplateError("expected: for NAME in LIST");
    const std::string name = words[1].text;
    const Value list = active ? value_at(at, 3) : Value();
    if (active && list.kind != Value::Kind::List) throw TemplateError("for: expected a list");
    const std::size_t body = ++at;
    const std::size_t count = active ? list.list->size() : 0;
    const Scope outer = scope_;
    for (std::size_t i = 0; i < count; ++i) {
      scope_ = outer;  // what a loop sets does not outlive its turn
      scope_[name] = (*list.list)[i];
      const auto number = static_cast<std::int64_t>(i);
      scope_["loop"] =
          Value::of(Value::Map{{"index", Value::of(number + 1)},
                               {"index0", Value::of(number)},
                               {"first", Value::of(i == 0)},
                               {"last", Value::of(i + 1 == count)},
                               {"length", Value::of(static_cast<std::int64_t>(count))},
                               {"previtem", i > 0 ? (*list.list)[i - 1] : Value()},
                               {"nextitem", i + 1 < count ? (*list.list)[i + 1] : Value()}});
      at = body;
      block(at, true);
    }
    scope_ = outer;
    if (count == 0) block(at, false);
    if (tag(at) != "endfor") throw TemplateError("for without endfor");
    ++at;
  }

  void assign(std::size_t at) {
    const std::vector<Word>& words = parts_[at].words;
    const bool member = words.size() > 3 && words[2].text == ".";
    const std::size_t equals = member ? 4 : 2;
    if (words.size() <= equals + 1 || words[equals].text != "=") {
      throw TemplateError("expected: set NAME = VALUE");
    }
    Value value = value_at(at, equals + 1);
    if (!member) {
      scope_[words[1].text] = std::move(value);
      return;
    }
    const auto space = scope_.find(words[1].text);
    if (space == scope_.end() || space->second.kind != Value::Kind::Map) {
      throw TemplateError("set: " + words[1].text + " is no namespace");
    }
    (*space->second.map)[words[3].text] = std::move(value);
  }

  const std::vector<Part>& parts_;
  Scope scope_;
  std::string out_;
};

}  // namespace

std::string render_chat(const std::string& source, const ChatInput& input) {
  Value::List messages;
  for (const ChatMessage& message : input.messages) {
    messages.push_back(Value::of(
        Value::Map{{"role", Value::of(message.role)}, {"content", Value::of(message.content)}}));
  }
  const std::vector<Part> parts = parts_of(source);
  return Renderer(parts, {{"messages", Value::of(std::move(messages))},
                          {"bos_token", Value::of(input.beginning)},
                          {"eos_token", Value::of(input.end)},
                          {"add_generation_prompt", Value::of(input.add_generation_prompt)}})
      .render();
}

}  // namespace imhotep::executor
