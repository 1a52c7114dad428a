#pragma once
// What a window shows, as a file: the question, the numbers of What if, and how the views stand.

#include <QString>
#include <string>
#include <vector>

#include "gui/presenter/question.h"

namespace imhotep::gui {

struct Session {
  Question question;
  std::vector<double> knobs;
  std::string view = "explore", theme = "light";
  std::string filter, x_metric = "time", y_metric = "memory", colour_by = "tensor";
  std::vector<std::string> hidden_columns;
  std::string selected;  // hash of the plan

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("question", s.question, {.help = "what is asked"});
    visit("knobs", s.knobs, {.help = "values of What if", .optional = true});
    visit("view", s.view, {.help = "page shown", .optional = true});
    visit("theme", s.theme, {.help = "light, dark or contrast", .optional = true});
    visit("filter", s.filter, {.help = "of the plan table", .optional = true});
    visit("x_metric", s.x_metric, {.help = "of the chart", .optional = true});
    visit("y_metric", s.y_metric, {.help = "of the chart", .optional = true});
    visit("colour_by", s.colour_by, {.help = "of the chart", .optional = true});
    visit("hidden_columns", s.hidden_columns, {.help = "of the plan table", .optional = true});
    visit("selected", s.selected, {.help = "hash of the plan", .optional = true});
  }
};

void write_session(const Session& session, const QString& file);
[[nodiscard]] Session parse_session(const std::string& text, const std::string& name);

inline constexpr const char* kSessionSchema = "imhotep.gui-session/1";

}  // namespace imhotep::gui
