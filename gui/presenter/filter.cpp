#include "gui/presenter/filter.h"

#include "core/base/fail.h"
#include "core/base/units.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {

struct Filter::Node {
  enum class Kind { And, Or, Not, Compare } kind = Kind::Compare;
  std::unique_ptr<Node> left, right;
  int column = 0;
  int comparison = 0;  // into kComparisons
  double value = 0;

  [[nodiscard]] bool passes(const PlanSet& plans, std::int64_t row) const {
    switch (kind) {
      case Kind::And:
        return left->passes(plans, row) && right->passes(plans, row);
      case Kind::Or:
        return left->passes(plans, row) || right->passes(plans, row);
      case Kind::Not:
        return !left->passes(plans, row);
      case Kind::Compare:
        break;
    }
    const double held = plans.columns[column].values[row];
    switch (comparison) {
      case 0:
        return held < value;
      case 1:
        return held <= value;
      case 2:
        return held > value;
      case 3:
        return held >= value;
      case 4:
        return held == value;
      default:
        return held != value;
    }
  }
};

namespace {

using Node = Filter::Node;

class Parser {
 public:
  Parser(const QString& text, const PlanSet& plans) : text_(text), plans_(plans) { next(); }

  std::unique_ptr<Node> parse() {
    auto root = parse_or();
    if (!token_.isEmpty()) refuse("&&, || or the end");
    return root;
  }

 private:
  void next() {
    static const QRegularExpression kToken(
        R"(\G\s*(&&|\|\||<=|>=|==|!=|[<>!()]|[0-9.]+[A-Za-zµ]*|[A-Za-z_][A-Za-z_0-9]*|\S))");
    const auto match = kToken.match(text_, end_);
    token_ = match.hasMatch() ? match.captured(1) : QString();
    begin_ = match.hasMatch() ? static_cast<int>(match.capturedStart(1)) : count_of(text_);
    end_ = match.hasMatch() ? static_cast<int>(match.capturedEnd(1)) : count_of(text_);
  }

  [[noreturn]] void refuse(const std::string& expected) const {
    fail_input("filter, character {}: expected {}, got {}", begin_ + 1, expected,
               token_.isEmpty() ? "the end" : "\"" + plain(token_) + "\"");
  }

  std::unique_ptr<Node> join(Node::Kind kind, std::unique_ptr<Node> left,
                             std::unique_ptr<Node> right) {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->left = std::move(left);
    node->right = std::move(right);
    return node;
  }

  std::unique_ptr<Node> parse_or() {
    auto left = parse_and();
    while (token_ == u"||") {
      next();
      left = join(Node::Kind::Or, std::move(left), parse_and());
    }
    return left;
  }

  std::unique_ptr<Node> parse_and() {
    auto left = parse_not();
    while (token_ == u"&&") {
      next();
      left = join(Node::Kind::And, std::move(left), parse_not());
    }
    return left;
  }

  std::unique_ptr<Node> parse_not() {
    constexpr int kDeepest = 100;
    if (++depth_ > kDeepest) refuse("less nesting");
    std::unique_ptr<Node> node;
    if (token_ == u"!") {
      next();
      node = join(Node::Kind::Not, parse_not(), nullptr);
    } else if (token_ == u"(") {
      next();
      node = parse_or();
      if (token_ != u")") refuse(")");
      next();
    } else {
      node = parse_comparison();
    }
    --depth_;
    return node;
  }

  std::unique_ptr<Node> parse_comparison() {
    auto node = std::make_unique<Node>();
    node->column = plans_.index_of(token_);
    if (node->column < 0) {
      std::vector<std::string> known;
      for (const Column& column : plans_.columns) known.push_back(plain(column.name));
      const std::string near = nearest(plain(token_), known);
      refuse(near.empty() ? "a column, such as time or memory"
                          : fmt::format("a column (did you mean \"{}\"?)", near));
    }
    next();
    static const QStringList kComparisons = {"<", "<=", ">", ">=", "==", "!="};
    if (!kComparisons.contains(token_)) refuse("one of < <= > >= == !=");
    node->comparison = static_cast<int>(kComparisons.indexOf(token_));
    next();
    node->value = value_for(plans_.columns[node->column]);
    next();
    return node;
  }

  double value_for(const Column& column) const {
    if (column.kind == Column::Kind::Choice) {
      const auto index = column.choices.indexOf(token_);
      if (index < 0) refuse("one of " + plain(column.choices.join(", ")));
      return static_cast<double>(index);
    }
    const std::string typed = plain(QString(token_).replace("µ", "u"));
    try {
      return column.kind == Column::Kind::Time ? parse_time_us(typed) : parse_number(typed);
    } catch (const Error&) {
      refuse(column.kind == Column::Kind::Time    ? "a time such as 12ms"
             : column.kind == Column::Kind::Bytes ? "bytes such as 70GB"
                                                  : "a number");
    }
  }

  const QString& text_;
  const PlanSet& plans_;
  QString token_;
  int begin_ = 0, end_ = 0, depth_ = 0;
};

}  // namespace

Filter::Filter() = default;
Filter::Filter(const QString& text, const PlanSet& plans) {
  if (!text.trimmed().isEmpty()) root_ = Parser(text, plans).parse();
}
Filter::~Filter() = default;
Filter::Filter(Filter&&) noexcept = default;
Filter& Filter::operator=(Filter&&) noexcept = default;

bool Filter::passes(const PlanSet& plans, std::int64_t row) const {
  return root_ == nullptr || root_->passes(plans, row);
}

std::vector<std::int64_t> passing_rows(const Filter& filter, const PlanSet& plans) {
  std::vector<std::int64_t> rows;
  rows.reserve(static_cast<std::size_t>(plans.size()));
  for (std::int64_t row = 0; row < plans.size(); ++row) {
    if (filter.passes(plans, row)) rows.push_back(row);
  }
  return rows;
}

}  // namespace imhotep::gui
