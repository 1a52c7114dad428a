// doctest's cases with a Qt application around them: no display is needed.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <QApplication>
#include <QDir>
#include <QStandardPaths>
#include <QTimer>

#include "gui/views/theme.h"

int main(int argc, char** argv) {
  if (qEnvironmentVariableIsEmpty("QT_QPA_PLATFORM")) qputenv("QT_QPA_PLATFORM", "offscreen");
  // Settings and run plans go into a folder for tests.
  QStandardPaths::setTestModeEnabled(true);
  QApplication app(argc, argv);
  QCoreApplication::setOrganizationName("imhotep");
  QCoreApplication::setApplicationName("gui-tests");
  imhotep::gui::use_font_scale(1);
  imhotep::gui::use_theme(imhotep::gui::themes().front());
  doctest::Context context(argc, argv);
  // Within the event loop: some of Qt, fonts among it, only moves while it runs.
  QTimer::singleShot(0, &app, [&context] { QCoreApplication::exit(context.run()); });
  return QApplication::exec();
}
