#include "gui/presenter/form.h"

#include <limits>

#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

QString joined(const QString& section, const char* name) {
  return section.isEmpty() ? QString(name) : section + "." + name;
}

// Whole gigabytes and thousands are written short, everything else in full.
QString number_text(double value, bool whole) {
  if (!whole) return QString::number(value, 'g', 10);
  const auto count = static_cast<qint64>(value);
  for (const auto& [scale, suffix] : {std::pair<qint64, const char*>{qint64{1} << 40, "Ti"},
                                      {qint64{1} << 30, "Gi"},
                                      {1'000'000'000, "G"}}) {
    if (count != 0 && count % scale == 0) return QString::number(count / scale) + suffix;
  }
  return QString::number(count);
}

template <class T>
constexpr bool kIsList = IsVector<T>::value || IsMap<T>::value || IsOptional<T>::value;

struct Lister {
  QString section;
  std::vector<FormField>& out;

  template <class T>
  void operator()(const char* name, const T& value, FieldNote note = {}) {
    if constexpr (FieldStruct<T>) {
      Lister inner{joined(section, name), out};
      T::fields(value, inner);
    } else if constexpr (!kIsList<T>) {
      FormField field{.path = joined(section, name),
                      .section = section,
                      .label = label_of(name),
                      .help = note.help};
      if constexpr (NamedEnum<T>) {
        field.kind = FormField::Kind::Choice;
        for (const std::string& choice : names_of<T>()) field.choices << qt(choice);
        field.value = qt(name_of(value));
      } else if constexpr (TextValue<T>) {
        field.value = qt(value.text());
      } else if constexpr (std::same_as<T, bool>) {
        field.kind = FormField::Kind::Flag;
        field.value = value ? "yes" : "no";
      } else if constexpr (std::same_as<T, std::string>) {
        field.value = qt(value);
      } else {
        field.kind = FormField::Kind::Number;
        field.value = number_text(static_cast<double>(value), std::integral<T>);
      }
      out.push_back(field);
    }
  }
};

struct Setter {
  QString section, path, text;
  bool& found;

  template <class T>
  void operator()(const char* name, T& value, FieldNote note = {}) {
    const QString here = joined(section, name);
    if constexpr (FieldStruct<T>) {
      Setter inner{here, path, text, found};
      T::fields(value, inner);
    } else if constexpr (!kIsList<T>) {
      if (here != path) return;
      found = true;
      set(value, note);
    }
  }

  [[noreturn]] void refuse(const std::string& expected) const {
    fail_input("{}: expected {}, got \"{}\"", plain(path), expected, plain(text));
  }

  template <class T>
  void set(T& value, const FieldNote& note) const {
    const std::string typed = plain(text.trimmed());
    if constexpr (NamedEnum<T>) {
      if (!parse_enum(typed, value)) {
        refuse(fmt::format("one of {}", fmt::join(names_of<T>(), ", ")));
      }
    } else if constexpr (TextValue<T>) {
      value = T::parse(typed);
    } else if constexpr (std::same_as<T, bool>) {
      if (typed != "yes" && typed != "no") refuse("yes or no");
      value = typed == "yes";
    } else if constexpr (std::same_as<T, std::string>) {
      value = typed;
    } else {
      set_number(value, note, typed);
    }
  }

  template <class T>
  void set_number(T& value, const FieldNote& note, const std::string& typed) const {
    constexpr bool whole = std::integral<T>;
    std::string expected = whole ? "a whole number" : "a number";
    if (std::isfinite(note.minimum)) expected += fmt::format(" >= {}", note.minimum);
    if (std::isfinite(note.maximum)) expected += fmt::format(" <= {}", note.maximum);
    double number = 0;
    try {
      number = whole ? static_cast<double>(parse_integer(typed)) : parse_number(typed);
    } catch (const Error&) {
      refuse(expected);
    }
    const bool held =
        !whole || std::abs(number) <= static_cast<double>(std::numeric_limits<T>::max());
    if (number < note.minimum || number > note.maximum || !held) refuse(expected);
    value = static_cast<T>(number);
  }
};

}  // namespace

QString label_of(const QString& name) {
  static const std::pair<const char*, const char*> kUnits[] = {
      {"_bytes_per_us", "MB/s"},
      {"_flops_per_us", "MFLOP/s"},
      {"_per_s", "per second"},
      {"_bytes", "bytes"},
      {"_us", "µs"},
      {"_per_device_hour", "per device and hour"},
      {"_per_mtoken", "per million tokens"}};
  QString stem = name, unit;
  if (name == "bytes_per_us") return "bandwidth (MB/s)";
  for (const auto& [end, text] : kUnits) {
    if (!name.endsWith(end) || name == end) continue;
    stem = name.chopped(QString(end).size());
    unit = QString(" (%1)").arg(text);
    break;
  }
  return stem.replace('_', ' ') + unit;
}

std::vector<FormField> form_of(const Question& question) {
  std::vector<FormField> fields;
  Lister lister{{}, fields};
  Question::fields(question, lister);
  return fields;
}

Question with_field(Question question, const QString& path, const QString& text) {
  bool found = false;
  Setter setter{{}, path, text, found};
  Question::fields(question, setter);
  if (!found) fail("{}: no such field", plain(path));
  return question;
}

}  // namespace imhotep::gui
