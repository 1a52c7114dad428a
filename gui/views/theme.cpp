#include "gui/views/theme.h"

#include <QApplication>
#include <QFontDatabase>
#include <QPainter>
#include <QPalette>
#include <QProxyStyle>
#include <QSlider>
#include <QStyleFactory>
#include <QStyleOption>
#include <cmath>

namespace imhotep::gui {
namespace {

// Categories: Okabe and Ito's colours for colour-blind readers, darkened or lightened until they
// stand out from the background.
std::array<Theme, 3> make_themes() {
  Theme light{.name = "light", .title = "Light"};
  light.window = "#f3f4f6";
  light.base = "#ffffff";
  light.raised = "#fafbfc";
  light.text = "#1b1f24";
  light.muted = "#57606a";
  light.grid = "#e4e7eb";
  light.border = "#c5cbd3";
  light.faint = "#c5cbd3";
  light.accent = "#0b5cad";
  light.on_accent = "#ffffff";
  light.good = "#176f2c";
  light.bad = "#b3261e";
  light.series = {"#0072b2", "#c4500b", "#007a5a", "#a23b72",
                  "#7a6a00", "#5146b8", "#5f6770", "#8c510a"};
  Theme dark{.name = "dark", .title = "Dark"};
  dark.window = "#1b1e23";
  dark.base = "#14161a";
  dark.raised = "#22262c";
  dark.text = "#e8eaed";
  dark.muted = "#a9b1bb";
  dark.grid = "#2b3037";
  dark.border = "#454c56";
  dark.faint = "#454c56";
  dark.accent = "#7cb7ff";
  dark.on_accent = "#0b1a2b";
  dark.good = "#63d184";
  dark.bad = "#ff8f86";
  dark.series = {"#56b4e9", "#f0a03c", "#2cc295", "#e78ac3",
                 "#e8d44d", "#a5a0ff", "#aab2bb", "#d8a47f"};
  Theme contrast{.name = "contrast", .title = "High contrast"};
  contrast.window = contrast.base = contrast.raised = "#000000";
  contrast.text = contrast.muted = "#ffffff";
  contrast.grid = "#4d4d4d";
  contrast.border = "#ffffff";
  contrast.faint = "#7a7a7a";
  contrast.accent = "#ffff00";
  contrast.on_accent = "#000000";
  contrast.good = "#5cff8a";
  contrast.bad = "#ff9d9d";
  contrast.series = {"#5cc8ff", "#ffb347", "#3dffb8", "#ff9ee0",
                     "#ffff66", "#c7c2ff", "#ffffff", "#ffcfa3"};
  return {light, dark, contrast};
}

const Theme* current = nullptr;

double channel(int value) {
  const double c = value / 255.0;
  return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
}

double luminance(const QColor& color) {
  return 0.2126 * channel(color.red()) + 0.7152 * channel(color.green()) +
         0.0722 * channel(color.blue());
}

// Fusion's check boxes, sliders and frames all but vanish on dark windows, and do not grow with
// texts.
class ClearStyle : public QProxyStyle {
 public:
  ClearStyle() : QProxyStyle(QStyleFactory::create("Fusion")) {}
  void drawPrimitive(PrimitiveElement element, const QStyleOption* option, QPainter* painter,
                     const QWidget* widget) const override {
    if (element != PE_IndicatorCheckBox && element != PE_IndicatorItemViewItemCheck) {
      QProxyStyle::drawPrimitive(element, option, painter, widget);
      if (element == PE_PanelButtonCommand) frame(option, painter);
      return;
    }
    const bool on = (option->state & State_On) != 0;
    const QRectF box = QRectF(option->rect).adjusted(1.5, 1.5, -1.5, -1.5);
    painter->save();
    painter->setRenderHint(QPainter::Antialiasing);
    painter->setPen(
        QPen((option->state & State_HasFocus) != 0 ? theme().accent : theme().muted, 1.3));
    painter->setBrush(on ? theme().accent : theme().base);
    painter->drawRoundedRect(box, 2.5, 2.5);
    if (on) {
      painter->setPen(QPen(theme().on_accent, 2));
      const double w = box.width(), h = box.height();
      painter->drawPolyline(QPolygonF({box.topLeft() + QPointF(0.2 * w, 0.55 * h),
                                       box.topLeft() + QPointF(0.42 * w, 0.75 * h),
                                       box.topLeft() + QPointF(0.8 * w, 0.28 * h)}));
    }
    painter->restore();
  }
  void drawComplexControl(ComplexControl control, const QStyleOptionComplex* option,
                          QPainter* painter, const QWidget* widget) const override {
    const auto* slider = qstyleoption_cast<const QStyleOptionSlider*>(option);
    if (control == CC_Slider && slider != nullptr && slider->orientation == Qt::Horizontal) {
      return draw_slider(*slider, painter, widget);
    }
    const auto* combo = qstyleoption_cast<const QStyleOptionComboBox*>(option);
    if (control == CC_ComboBox && combo != nullptr) {
      hides_arrow_ = true;
      QProxyStyle::drawComplexControl(control, option, painter, widget);
      hides_arrow_ = false;
      draw_arrow(*combo, painter, widget);
    } else {
      QProxyStyle::drawComplexControl(control, option, painter, widget);
    }
    if (control == CC_ComboBox || control == CC_SpinBox) frame(option, painter);
  }
  QRect subControlRect(ComplexControl control, const QStyleOptionComplex* option, SubControl part,
                       const QWidget* widget) const override {
    const QRect usual = QProxyStyle::subControlRect(control, option, part, widget);
    if (control != CC_ComboBox) return usual;
    const int more = wider_arrow(widget);
    if (part == SC_ComboBoxArrow) return hides_arrow_ ? QRect() : usual.adjusted(-more, 0, 0, 0);
    return part == SC_ComboBoxEditField ? usual.adjusted(0, 0, -more, 0) : usual;
  }
  QSize sizeFromContents(ContentsType type, const QStyleOption* option, const QSize& size,
                         const QWidget* widget) const override {
    const QSize usual = QProxyStyle::sizeFromContents(type, option, size, widget);
    return type == CT_ComboBox ? usual + QSize(wider_arrow(widget), 0) : usual;
  }
  int pixelMetric(PixelMetric metric, const QStyleOption* option,
                  const QWidget* widget) const override {
    const int usual = QProxyStyle::pixelMetric(metric, option, widget);
    const bool grows = metric == PM_IndicatorWidth || metric == PM_IndicatorHeight ||
                       metric == PM_SliderLength || metric == PM_SliderThickness ||
                       metric == PM_SliderControlThickness;
    if (!grows) return usual;
    return std::max(usual, static_cast<int>(text_height(widget) * 0.85));
  }

 private:
  mutable bool hides_arrow_ = false;  // Fusion's, which is as large beside any text

  static int text_height(const QWidget* widget) {
    return QFontMetrics(widget != nullptr ? widget->font() : QApplication::font()).height();
  }
  // Points by which the part with the arrow exceeds Fusion's.
  static int wider_arrow(const QWidget* widget) {
    constexpr int kUsual = 19;
    return std::max(0, text_height(widget) - kUsual);
  }
  void draw_arrow(const QStyleOptionComboBox& combo, QPainter* painter,
                  const QWidget* widget) const {
    const QRectF room = subControlRect(CC_ComboBox, &combo, SC_ComboBoxArrow, widget);
    const double half = text_height(widget) * 0.26;
    const QPointF at = room.center() + QPointF(0, half / 2);
    painter->save();
    painter->setRenderHint(QPainter::Antialiasing);
    const bool on = (combo.state & State_Enabled) != 0;
    painter->setPen(QPen(on ? theme().text : theme().muted, std::max(1.4, half / 3.5),
                         Qt::SolidLine, Qt::RoundCap, Qt::RoundJoin));
    painter->drawPolyline(QPolygonF({at + QPointF(-half, -half), at, at + QPointF(half, -half)}));
    painter->restore();
  }
  // A groove with the part before the handle filled, ticks below, a round handle.
  void draw_slider(const QStyleOptionSlider& slider, QPainter* painter,
                   const QWidget* widget) const {
    const int length = pixelMetric(PM_SliderLength, &slider, widget);
    const int room = slider.rect.width() - length;
    const auto x_of = [&](int value) {
      return slider.rect.left() + length / 2.0 +
             sliderPositionFromValue(slider.minimum, slider.maximum, value, room,
                                     slider.upsideDown);
    };
    const bool ticks = slider.tickPosition != QSlider::NoTicks, on = slider.state & State_Enabled;
    const double y = slider.rect.center().y() + 0.5 - (ticks ? 2 : 0),
                 at = x_of(slider.sliderPosition);
    const double radius = length / 2.0 - 1.5;
    painter->save();
    painter->setRenderHint(QPainter::Antialiasing);
    if (ticks && slider.tickInterval > 0) {
      painter->setPen(QPen(theme().muted, 1));
      const double top = std::min(y + radius + 1.5, slider.rect.bottom() - 3.0);
      for (int value = slider.minimum; value <= slider.maximum; value += slider.tickInterval) {
        painter->drawLine(QPointF(x_of(value), top), QPointF(x_of(value), top + 3));
      }
    }
    painter->setPen(QPen(theme().muted, 3, Qt::SolidLine, Qt::RoundCap));
    painter->drawLine(QPointF(x_of(slider.minimum), y), QPointF(x_of(slider.maximum), y));
    painter->setPen(QPen(on ? theme().accent : theme().muted, 4, Qt::SolidLine, Qt::RoundCap));
    painter->drawLine(QPointF(x_of(slider.minimum), y), QPointF(at, y));
    const bool focus = (slider.state & State_HasFocus) != 0;
    painter->setPen(QPen(on ? theme().accent : theme().muted, focus ? 3 : 1.6));
    painter->setBrush(theme().base);
    painter->drawEllipse(QPointF(at, y), radius, radius);
    painter->restore();
  }
  static void frame(const QStyleOption* option, QPainter* painter) {
    painter->save();
    painter->setRenderHint(QPainter::Antialiasing);
    painter->setPen(
        QPen((option->state & State_HasFocus) != 0 ? theme().accent : theme().border, 1));
    painter->setBrush(Qt::NoBrush);
    painter->drawRoundedRect(QRectF(option->rect).adjusted(0.5, 0.5, -0.5, -0.5), 3, 3);
    painter->restore();
  }
};

QPalette palette_of(const Theme& t) {
  QPalette palette;
  const std::pair<QPalette::ColorRole, QColor> kRoles[] = {{QPalette::Window, t.window},
                                                           {QPalette::WindowText, t.text},
                                                           {QPalette::Base, t.base},
                                                           {QPalette::AlternateBase, t.raised},
                                                           {QPalette::Text, t.text},
                                                           {QPalette::Button, t.raised},
                                                           {QPalette::ButtonText, t.text},
                                                           {QPalette::ToolTipBase, t.raised},
                                                           {QPalette::ToolTipText, t.text},
                                                           {QPalette::Highlight, t.accent},
                                                           {QPalette::HighlightedText, t.on_accent},
                                                           {QPalette::PlaceholderText, t.muted},
                                                           {QPalette::Link, t.accent},
                                                           {QPalette::LinkVisited, t.accent},
                                                           {QPalette::BrightText, t.bad},
                                                           {QPalette::Light, t.raised},
                                                           {QPalette::Midlight, t.grid},
                                                           {QPalette::Mid, t.border},
                                                           {QPalette::Dark, t.border},
                                                           {QPalette::Shadow, t.border}};
  for (const auto& [role, color] : kRoles) palette.setColor(role, color);
  for (const auto role : {QPalette::WindowText, QPalette::Text, QPalette::ButtonText}) {
    palette.setColor(QPalette::Disabled, role, t.muted);
  }
  return palette;
}

// Only what Fusion leaves too faint: frames, focus and headers.
QString sheet_of(const Theme& t) {
  return QString(
             "QGroupBox { border: 1px solid %3; border-radius: 4px; margin-top: 3ex; padding-top: "
             "2px; }"
             "QGroupBox::title { subcontrol-origin: margin; left: 1px; }"
             "QScrollBar { background: transparent; border: 0; margin: 0; }"
             "QScrollBar:vertical { width: 13px; }"
             "QScrollBar:horizontal { height: 13px; }"
             "QScrollBar::handle { background: %8; border-radius: 4px; margin: 2px; }"
             "QScrollBar::handle:vertical { min-height: 26px; }"
             "QScrollBar::handle:horizontal { min-width: 26px; }"
             "QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }"
             "QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }"
             "QScrollArea#page { border: 0; }"
             "QListWidget { background: %2; }"
             "QToolTip { color: %1; background: %2; border: 1px solid %3; padding: 4px; }"
             "QHeaderView::section { color: %1; background: %4; border: 0; border-right: 1px solid "
             "%3; border-bottom: 1px solid %3; padding: 4px 6px; }"
             "QTableView { gridline-color: %6; border: 1px solid %3; }"
             "QTableView::item { padding: 2px 6px; }"
             "QLineEdit, QPlainTextEdit, QListWidget, QScrollArea { border: 1px solid %3; "
             "border-radius: 4px; }"
             "QLineEdit { padding: 3px 5px; background: %2; }"
             "QLineEdit:focus, QPlainTextEdit:focus, QTableView:focus, QListWidget:focus { border: "
             "2px solid %5; }"
             "QPushButton { padding: 5px 12px; }"
             "QToolButton { padding: 3px 7px; }"
             "QToolButton::menu-indicator { image: none; }"
             "QLineEdit[wrong=\"true\"] { border: 2px dashed %7; }"
             "QLabel#title { font-weight: bold; }"
             "QLabel#muted { color: %8; }"
             "QFrame#card { background: %2; border: 1px solid %3; border-radius: 6px; }"
             "QTabBar::tab { padding: 7px 14px; border: 0; border-bottom: 3px solid transparent; }"
             "QTabBar::tab:selected { border-bottom: 3px solid %5; font-weight: bold; }"
             "QTabBar::tab:hover { background: %4; }"
             "QStatusBar::item { border: 0; }"
             "QSplitter::handle { background: %3; }"
             "QFrame#heading { background: %4; }")
      .arg(t.text.name(), t.base.name(), t.border.name(), t.raised.name(), t.accent.name(),
           t.grid.name(), t.bad.name(), t.muted.name());
}

}  // namespace

const std::array<Theme, 3>& themes() {
  static const std::array<Theme, 3> kThemes = make_themes();
  return kThemes;
}

const Theme& theme_named(const QString& name) {
  for (const Theme& candidate : themes()) {
    if (candidate.name == name) return candidate;
  }
  return themes().front();
}

const Theme& theme() { return current == nullptr ? themes().front() : *current; }

void use_theme(const Theme& theme) {
  current = &theme_named(theme.name);
  QApplication::setStyle(new ClearStyle);
  QApplication::setPalette(palette_of(theme));
  qApp->setStyleSheet(sheet_of(theme));
}

void use_font_scale(double scale) {
  static const QFont kSystem = [] {
    QFont font = QApplication::font();
    constexpr double kUsualPoints = 10;
    if (QFontDatabase::families().contains("DejaVu Sans") &&
        !QFontDatabase::families().contains(font.family())) {
      font.setFamily("DejaVu Sans");
    }
    font.setPointSizeF(kUsualPoints);
    return font;
  }();
  QFont font = kSystem;
  font.setPointSizeF(kSystem.pointSizeF() * scale);
  QApplication::setFont(font);
  // Widgets that stand under a style sheet take the font up when they are styled anew.
  if (current != nullptr) qApp->setStyleSheet(sheet_of(*current));
}

double contrast_ratio(const QColor& a, const QColor& b) {
  const double x = luminance(a), y = luminance(b);
  return (std::max(x, y) + 0.05) / (std::min(x, y) + 0.05);
}

QColor readable_on(const QColor& background) {
  const QColor black("#101214"), white("#ffffff");
  return contrast_ratio(black, background) >= contrast_ratio(white, background) ? black : white;
}

Qt::BrushStyle pattern(int index) {
  constexpr Qt::BrushStyle kPatterns[] = {Qt::SolidPattern,  Qt::BDiagPattern,    Qt::Dense4Pattern,
                                          Qt::FDiagPattern,  Qt::HorPattern,      Qt::CrossPattern,
                                          Qt::Dense6Pattern, Qt::DiagCrossPattern};
  return kPatterns[index % 8];
}

}  // namespace imhotep::gui
