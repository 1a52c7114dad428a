#pragma once
// A struct with a field list as lines of a form: what to show, what is allowed, and how a text
// typed by a person becomes a value. One line a field; structs inside structs become sections.

#include <QString>
#include <QStringList>
#include <vector>

#include "gui/presenter/question.h"

namespace imhotep::gui {

struct FormField {
  enum class Kind { Number, Text, Flag, Choice };
  QString path;     // "cluster.device.memory_bytes"
  QString section;  // "cluster.device"
  QString label;    // "memory (bytes)"
  QString help;
  Kind kind = Kind::Text;
  QStringList choices;
  QString value;  // as it is written
};

// Lists of structs and of lists have no line of their own (measured histograms come from a file).
[[nodiscard]] std::vector<FormField> form_of(const Question& question);

// The question with one field changed. Numbers may have the suffixes of the command line.
// Throws: Error(Input) naming the field, what is expected and what came.
[[nodiscard]] Question with_field(Question question, const QString& path, const QString& text);

// "memory_bytes" -> "memory (bytes)"; units are told by the end of a name.
[[nodiscard]] QString label_of(const QString& name);

}  // namespace imhotep::gui
