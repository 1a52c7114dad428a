#pragma once
// Pictures without a display: imhotep-gui --render VIEW --in FILE --out x.png.

#include <QString>
#include <QStringList>

namespace imhotep::gui {

struct RenderOptions {
  QString view, out, theme = "light";
  QStringList in;  // files, opened in this order; none: the sample question
  int width = 1320, height = 860;
  double scale = 1;  // pixels a point
  double font_scale = 1;
};

[[nodiscard]] QStringList render_views();

// Opens, waits until everything is computed, draws. Throws: Error(Input) for an unknown view or a
// broken file.
void render_view(const RenderOptions& options);

}  // namespace imhotep::gui
