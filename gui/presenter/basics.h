#pragma once
// Small conversions between the program's types and Qt's.

#include <QString>
#include <QStringList>
#include <cmath>
#include <iterator>
#include <string>

namespace imhotep::gui {

[[nodiscard]] inline QString qt(const std::string& text) { return QString::fromStdString(text); }
[[nodiscard]] inline std::string plain(const QString& text) { return text.toStdString(); }

template <class Container>
[[nodiscard]] int count_of(const Container& container) {
  return static_cast<int>(std::size(container));
}

[[nodiscard]] inline int rounded(double value) { return static_cast<int>(std::lround(value)); }

}  // namespace imhotep::gui
