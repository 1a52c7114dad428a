#pragma once
// Filter expressions over plans: `tensor<=4 && memory<70GB && exchange==flat`.
//
//   or     = and { "||" and }          and = not { "&&" not }
//   not    = "!" not | "(" or ")" | column comparison value
// Comparisons: < <= > >= == !=. Values: numbers with units (70GB, 12ms, 8k) or choices (flat, yes).

#include <QString>
#include <memory>
#include <vector>

#include "gui/presenter/plan_set.h"

namespace imhotep::gui {

class Filter {
 public:
  Filter();  // everything passes
  // Throws: Error(Input) with the place in the text, what is expected and what came; an unknown
  // column with the nearest known one.
  Filter(const QString& text, const PlanSet& plans);
  ~Filter();
  Filter(Filter&&) noexcept;
  Filter& operator=(Filter&&) noexcept;

  struct Node;
  [[nodiscard]] bool passes(const PlanSet& plans, std::int64_t row) const;
  [[nodiscard]] bool is_empty() const { return root_ == nullptr; }

 private:
  std::unique_ptr<Node> root_;
};

// Rows that pass, ascending.
[[nodiscard]] std::vector<std::int64_t> passing_rows(const Filter& filter, const PlanSet& plans);

}  // namespace imhotep::gui
