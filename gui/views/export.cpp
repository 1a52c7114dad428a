// Any widget as a picture.

#include <QPageSize>
#include <QPainter>
#include <QPdfWriter>
#include <QSaveFile>
#include <QSvgGenerator>

#include "core/base/fail.h"
#include "gui/presenter/basics.h"
#include "gui/views/chart.h"

namespace imhotep::gui {
namespace {

constexpr double kFine = 3;  // pixels a point, of a cloud of points among lines

class Directly {
 public:
  explicit Directly(double ratio) { Chart::draw_directly(ratio); }
  ~Directly() { Chart::draw_directly(0); }
  Directly(const Directly&) = delete;
  Directly& operator=(const Directly&) = delete;
};

void render(QWidget& widget, QPainter& painter) {
  widget.render(&painter, {}, {}, QWidget::DrawWindowBackground | QWidget::DrawChildren);
}

bool write_svg(QWidget& widget, QIODevice& out) {
  QSvgGenerator generator;
  generator.setOutputDevice(&out);
  generator.setSize(widget.size());
  generator.setViewBox(widget.rect());
  generator.setTitle(widget.accessibleName());
  generator.setDescription(widget.accessibleDescription());
  const Directly now(kFine);
  QPainter painter;
  if (!painter.begin(&generator)) return false;
  render(widget, painter);
  return painter.end();
}

bool write_pdf(QWidget& widget, QIODevice& out) {
  constexpr int kDotsPerInch = 96;
  QPdfWriter writer(&out);
  writer.setResolution(kDotsPerInch);
  writer.setPageMargins({});
  writer.setPageSize(
      QPageSize(QSizeF(widget.size()) / kDotsPerInch, QPageSize::Inch, {}, QPageSize::ExactMatch));
  writer.setTitle(widget.accessibleName());
  const Directly now(kFine);
  QPainter painter;
  if (!painter.begin(&writer)) return false;
  render(widget, painter);
  return painter.end();
}

bool write_png(QWidget& widget, QIODevice& out, double scale) {
  QImage image((QSizeF(widget.size()) * scale).toSize(), QImage::Format_RGB32);
  if (image.isNull()) return false;
  image.setDevicePixelRatio(scale);
  image.fill(theme().window);
  const Directly now(scale);
  QPainter painter(&image);
  render(widget, painter);
  painter.end();
  return image.save(&out, "PNG");
}

}  // namespace

void export_widget(QWidget& widget, const QString& file, double scale) {
  const QString ending = file.section('.', -1).toLower();
  if (ending != u"svg" && ending != u"png" && ending != u"pdf") {
    fail_input("{}: expected a name that ends in .svg, .png or .pdf", plain(file));
  }
  QSaveFile out(file);
  const bool opened = out.open(QIODevice::WriteOnly);
  const bool drawn = opened && (ending == u"svg"   ? write_svg(widget, out)
                                : ending == u"pdf" ? write_pdf(widget, out)
                                                   : write_png(widget, out, scale));
  if (!drawn || !out.commit()) {
    fail("{}: cannot be written: {}", plain(file), plain(out.errorString()));
  }
}

}  // namespace imhotep::gui
