#pragma once
// Colours of the window. Every painter takes them from here, so that all views change together.
// Categories differ by shape or pattern too: nothing is told by colour alone.

#include <QColor>
#include <QFont>
#include <QString>
#include <QStringList>
#include <array>

namespace imhotep::gui {

struct Theme {
  QString name;                 // "light", "dark", "contrast"
  QString title;                // "High contrast"
  QColor window, base, raised;  // behind widgets, behind charts and texts, cards
  QColor text, muted;           // both readable on all three (4.5:1)
  QColor grid, border;
  QColor faint;              // points that do not count
  QColor accent, on_accent;  // selection and what is written on it
  QColor good, bad;
  std::array<QColor, 8> series;  // 3:1 on base
};

[[nodiscard]] const std::array<Theme, 3>& themes();
[[nodiscard]] const Theme& theme_named(const QString& name);  // light when unknown

// The theme of the running window; views repaint when the palette changes.
[[nodiscard]] const Theme& theme();
void use_theme(const Theme& theme);
// `scale` 1: the size the system chose.
void use_font_scale(double scale);

// Source: WCAG 2.1, relative luminance and contrast ratio; 1 to 21.
[[nodiscard]] double contrast_ratio(const QColor& a, const QColor& b);
// Black or white, whichever is easier to read on it.
[[nodiscard]] QColor readable_on(const QColor& background);

// Eight fill patterns, solid first.
[[nodiscard]] Qt::BrushStyle pattern(int index);

}  // namespace imhotep::gui
