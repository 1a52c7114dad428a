#include "gui/app/render.h"

#include <QApplication>
#include <QDir>
#include <QElapsedTimer>
#include <QEventLoop>
#include <QFileInfo>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "gui/app/main_window.h"
#include "gui/presenter/basics.h"
#include "gui/views/theme.h"

namespace imhotep::gui {
namespace {

constexpr qint64 kPatienceMs = 120'000;

template <class Done>
void wait_until(const char* what, Done done) {
  QElapsedTimer timer;
  timer.start();
  while (!done()) {
    if (timer.elapsed() > kPatienceMs) fail("waiting for {}: no answer in 120 s", what);
    QApplication::processEvents(QEventLoop::AllEvents | QEventLoop::WaitForMoreEvents, 20);
  }
}

void settle() {
  for (int i = 0; i < 5; ++i) QApplication::processEvents(QEventLoop::AllEvents, 50);
}

// Another plan than the best: the one on the front with least memory.
void choose_another(MainWindow& window) {
  const auto& front = window.explore().scatter().front();
  if (!front.empty()) window.explorer().select(front.back());
}

void open_files(MainWindow& window, const QStringList& files) {
  QStringList folders;
  for (const QString& file : files) {
    if (QFileInfo(file).isDir()) {
      folders << file;  // a run folder
      window.run().show_folder(file);
    } else {
      window.explorer().open_now(open_any(file), file);
    }
  }
  if (!window.explorer().has_question()) window.explorer().ask(sample_question(), "sample");
  Explorer& explorer = window.explorer();
  wait_until("plans", [&] { return explorer.plans() && !explorer.is_busy(); });
  wait_until("What if", [&] { return explorer.what_if() && !explorer.what_if()->first; });
}

}  // namespace

QStringList render_views() {
  return MainWindow::page_names() + QStringList{"pareto",   "table",  "memory",  "ask",
                                                "measured", "window", "welcome", "palette"};
}

void render_view(const RenderOptions& options) {
  if (!render_views().contains(options.view)) {
    std::vector<std::string> known;
    for (const QString& view : render_views()) known.push_back(plain(view));
    const std::string near = nearest(plain(options.view), known);
    fail_input("--render {}: expected one of {}{}", plain(options.view),
               plain(render_views().join(", ")),
               near.empty() ? "" : fmt::format(" (did you mean \"{}\"?)", near));
  }
  use_font_scale(options.font_scale);
  use_theme(theme_named(options.theme));
  MainWindow window;
  window.stay_private();
  window.resize(options.width, options.height);
  window.setAttribute(Qt::WA_DontShowOnScreen);
  window.show();
  QWidget* target = &window;
  if (options.view != u"welcome") {
    open_files(window, options.in);
    if (options.view == u"compare") {
      choose_another(window);
    } else if (options.view == u"whatif") {
      window.show_page("whatif");
      window.explorer().set_knob(Knob::Links, 0.5);
      window.explorer().find_sensitivities();
      wait_until("What if", [&] {
        return window.explorer().sensitivity() && window.explorer().what_if() &&
               !window.explorer().what_if()->first;
      });
    }
    if (options.view == u"measured") window.compare().show_measured(true);
    const QString page = options.view == u"measured"                       ? "compare"
                         : options.view == u"memory"                       ? "breakdown"
                         : MainWindow::page_names().contains(options.view) ? options.view
                                                                           : "explore";
    window.show_page(page);
    if (options.view == u"pareto") window.explore().table_panel().hide();
    if (options.view == u"table") window.explore().chart_panel().hide();
    settle();
    wait_until("an answer", [&] { return !window.explorer().is_busy(); });
    settle();
    if (options.view == u"compare") window.compare().show_measured(false);
    if (options.view == u"pareto") target = &window.explore().chart_panel();
    if (options.view == u"table") target = &window.explore().table_panel();
    if (options.view == u"ask") target = &window.ask();
    if (MainWindow::page_names().contains(options.view)) target = window.page(options.view);
    if (options.view == u"measured") target = window.page("compare");
    if (options.view == u"memory") {
      auto& chart = static_cast<BreakdownChart&>(*window.breakdown().panel().chart());
      chart.show_only_memory();
      chart.setMaximumHeight(chart.minimumSizeHint().height());
      settle();
      target = &chart;
    }
    if (options.view == u"palette") {
      show_palette(window, window.all_actions());
      settle();
      target = window.findChild<QDialog*>("palette");
    }
  }
  settle();
  export_widget(*target, options.out, options.scale);
  window.close();
}

}  // namespace imhotep::gui
