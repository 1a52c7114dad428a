// imhotep-gui: the plan explorer.

#include <CLI/CLI.hpp>
#include <QApplication>
#include <QFontDatabase>
#include <cstdio>

#include "core/base/error.h"
#include "gui/app/main_window.h"
#include "gui/app/render.h"
#include "gui/presenter/basics.h"
#include "gui/views/theme.h"

namespace imhotep::gui {
namespace {

struct Options {
  std::vector<std::string> files, in;
  std::string render, out, theme = "light";
  int width = 1320, height = 860;
  double scale = 1, font_scale = 1;
};

void declare(CLI::App& app, Options& options) {
  app.add_option("FILES", options.files, "plans, reports, models, clusters, searches, sessions");
  app.add_option("--render", options.render,
                 "draw this view and end: " + plain(render_views().join(", ")));
  app.add_option("--in", options.in, "files to render; a folder is a run folder");
  app.add_option("--out", options.out, "picture to write: .png, .svg or .pdf");
  app.add_option("--theme", options.theme, "light, dark or contrast")
      ->check(CLI::IsMember({"light", "dark", "contrast"}));
  app.add_option("--width", options.width, "points")->check(CLI::Range(160, 10'000));
  app.add_option("--height", options.height, "points")->check(CLI::Range(120, 10'000));
  app.add_option("--scale", options.scale, "pixels a point")->check(CLI::Range(0.5, 8.0));
  app.add_option("--font-scale", options.font_scale, "of all text")->check(CLI::Range(0.5, 4.0));
  app.footer("Example: imhotep-gui --render pareto --in plan.json --out plans.png --theme dark");
}

int start(const Options& options) {
  if (QFontDatabase::families().isEmpty()) {
    std::fputs("imhotep-gui: no fonts were found, so there is no text; install fonts-dejavu-core\n",
               stderr);
  }
  if (!options.render.empty()) {
    if (options.out.empty()) raise(ErrorKind::Input, "--render needs --out FILE");
    RenderOptions render{
        .view = qt(options.render), .out = qt(options.out), .theme = qt(options.theme)};
    render.width = options.width;
    render.height = options.height;
    render.scale = options.scale;
    render.font_scale = options.font_scale;
    for (const std::string& file : options.in) render.in << qt(file);
    for (const std::string& file : options.files) render.in << qt(file);
    render_view(render);
    return 0;
  }
  use_font_scale(options.font_scale);
  use_theme(theme_named(qt(options.theme)));
  MainWindow window;
  window.restore_settings();
  window.show();
  for (const std::string& file : options.files) window.explorer().open(qt(file));
  for (const std::string& file : options.in) window.explorer().open(qt(file));
  return QApplication::exec();
}

}  // namespace
}  // namespace imhotep::gui

int main(int argc, char** argv) {
  using namespace imhotep;
  gui::Options options;
  CLI::App cli("The plan explorer: a window in which a plan explains itself.", "imhotep-gui");
  gui::declare(cli, options);
  try {
    cli.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = cli.exit(error);
    return code == 0 ? 0 : static_cast<int>(ErrorKind::Input);
  }
  // Pictures need no display.
  if (!options.render.empty()) {
    qputenv("QT_QPA_PLATFORM", "offscreen");
    qInstallMessageHandler([](QtMsgType, const QMessageLogContext&, const QString& text) {
      // What the offscreen platform says of itself is of no use to anybody.
      if (text.contains("propagateSizeHints") || text.contains("XDG_RUNTIME_DIR")) return;
      std::fprintf(stderr, "imhotep-gui: %s\n", text.toUtf8().constData());
    });
  }
  const QApplication app(argc, argv);
  QCoreApplication::setOrganizationName("imhotep");
  QCoreApplication::setApplicationName("imhotep-gui");
  try {
    return gui::start(options);
  } catch (const Error& error) {
    std::fprintf(stderr, "imhotep-gui: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
}
