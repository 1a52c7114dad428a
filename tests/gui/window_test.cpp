#include <doctest/doctest.h>

#include <QAccessible>
#include <QClipboard>
#include <QDialog>
#include <QFile>
#include <QLineEdit>
#include <QListWidget>
#include <QMenuBar>
#include <QTest>
#include <set>

#include "core/base/error.h"
#include "gui/app/main_window.h"
#include "gui/app/render.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/search_file.h"
#include "gui/views/theme.h"
#include "tests/gui/shown.h"

namespace imhotep::gui {
namespace {

TEST_SUITE_BEGIN("window");

TEST_CASE("many points are drawn beside the window, and found once they are") {
  const Plans many = many_plans(30'000);
  PlanScatter chart;
  chart.resize(700, 400);
  chart.set_asked({.plans = many, .rows = unarranged(*many).passing});
  chart.show();
  const auto drawn = [&] {
    (void)chart.grab();
    return happens([&] { return chart.is_drawn(); });
  };
  REQUIRE(drawn());
  const std::int64_t first = chart.front().front();
  CHECK(chart.point_at(chart.place_of(first)) == first);
  chart.set_axes("memory", "time", "data");
  CHECK(!chart.is_drawn());
  REQUIRE(drawn());
  const std::int64_t other = chart.front().front();
  CHECK(chart.point_at(chart.place_of(other)) == other);
  // While other plans are looked through, no point names one of them.
  const Plans fewer = many_plans(25'000);
  chart.set_asked({.plans = fewer, .rows = unarranged(*fewer).passing});
  chart.set_selected(fewer->size() - 1);
  CHECK(chart.point_at(chart.place_of(other)) == -1);
  REQUIRE(drawn());
  CHECK(chart.plans() == fewer);
  CHECK(chart.accessibleDescription().contains("Chosen"));
  // A picture does not wait for another thread.
  const QTemporaryDir folder;
  chart.set_axes("time", "memory", "tensor");
  const QString out = folder.filePath("a.png");
  export_widget(chart, out, 1);
  const QImage image(out);
  const QPoint place = chart.place_of(first).toPoint();
  CHECK(image.pixelColor(place) != QColor(theme().base));
}

TEST_CASE("the chart finds the plan under the mouse and walks along the front by keys") {
  Shown shown(small_question());
  PlanScatter& scatter = shown.window.explore().scatter();
  Explorer& explorer = shown.window.explorer();
  QTest::qWait(50);
  REQUIRE(scatter.front().size() >= 3);
  const std::int64_t first = scatter.front().front();
  QTest::mouseMove(&scatter, scatter.place_of(first).toPoint());
  QTest::mouseClick(&scatter, Qt::LeftButton, {}, scatter.place_of(first).toPoint());
  const QPointF clicked = scatter.place_of(explorer.selected());
  CHECK(QLineF(clicked, scatter.place_of(first)).length() < 2);
  explorer.select(first);
  scatter.setFocus();
  QTest::keyClick(&scatter, Qt::Key_Right);
  CHECK(explorer.selected() == scatter.front()[1]);
  QTest::keyClick(&scatter, Qt::Key_End);
  CHECK(explorer.selected() == scatter.front().back());
  CHECK(scatter.accessibleDescription().contains("Chosen"));
}

TEST_CASE("a copy of very many plans holds the first of them, and says so") {
  constexpr int kMost = 100'000, kPlans = 120'000;
  const QTemporaryDir folder;
  const QString file = folder.filePath("many.search");
  write_search(*many_plans(kPlans), file);
  Shown shown;
  MainWindow& window = shown.window;
  QString said;
  QObject::connect(&window.explorer(), &Explorer::told,
                   [&](const QString& message, bool) { said = message; });
  window.explorer().open(file);
  REQUIRE(happens([&] {
    return window.explorer().plans() && !window.explorer().is_busy() &&
           !window.explore().table().is_arranging();
  }));
  QGuiApplication::clipboard()->clear();
  window.explore().copy(CopyFormat::Csv);
  CHECK(said.contains("100,000 of 120,000"));
  REQUIRE(happens([] { return !QGuiApplication::clipboard()->text().isEmpty(); }));
  CHECK(QGuiApplication::clipboard()->text().count('\n') == kMost + 1);
}

TEST_CASE("a rubber band becomes a filter, and the table shows what the chart shows") {
  Shown shown(small_question());
  ExplorePage& page = shown.window.explore();
  PlanScatter& scatter = page.scatter();
  QTest::qWait(50);
  const int all = page.table().rowCount();
  const QPoint middle = scatter.rect().center();
  QTest::mousePress(&scatter, Qt::LeftButton, {},
                    QPoint(scatter.width() / 4, scatter.height() / 4));
  QTest::mouseMove(&scatter, middle);
  QTest::qWait(10);
  QMouseEvent move(QEvent::MouseMove, middle, scatter.mapToGlobal(middle), Qt::NoButton,
                   Qt::LeftButton, {});
  QApplication::sendEvent(&scatter, &move);
  QTest::mouseRelease(&scatter, Qt::LeftButton, {}, middle);
  CHECK(page.table().filter().contains("time>="));
  CHECK(page.table().rowCount() < all);
  page.set_filter("");
  CHECK(page.table().rowCount() == all);
  page.set_filter("tensr==1");
  CHECK(page.table().rowCount() == all);
}

TEST_CASE("the timeline zooms, moves and fits by its keys") {
  Shown shown(small_question());
  shown.window.show_page("timeline");
  QTest::qWait(50);
  TimelineChart& chart = shown.window.timeline().chart();
  const double whole = chart.to_us() - chart.from_us();
  REQUIRE(whole > 0);
  QTest::keyClick(&chart, Qt::Key_W);
  CHECK(chart.to_us() - chart.from_us() == doctest::Approx(whole / 1.5));
  const double from = chart.from_us();
  QTest::keyClick(&chart, Qt::Key_D);
  CHECK(chart.from_us() > from);
  QTest::keyClick(&chart, Qt::Key_S);
  QTest::keyClick(&chart, Qt::Key_F);
  CHECK(chart.from_us() == 0);
  CHECK(chart.to_us() == doctest::Approx(whole));
}

TEST_CASE("every command has a text, its own shortcut, and is found in the palette") {
  Shown shown(small_question());
  std::set<QString> shortcuts, names;
  REQUIRE(shown.window.all_actions().size() > 25);
  for (QAction* action : shown.window.all_actions()) {
    INFO(action->text().toStdString());
    CHECK(!action->objectName().isEmpty());
    CHECK(names.insert(action->objectName()).second);
    const QString keys = action->shortcut().toString();
    if (!keys.isEmpty()) CHECK(shortcuts.insert(keys).second);
  }
  // Menus are opened by Alt and a letter: each has one, and no two the same.
  std::set<QString> letters;
  for (const QAction* menu : shown.window.menuBar()->actions()) {
    const QString letter = menu->text().section('&', 1).left(1);
    CHECK(!letter.isEmpty());
    CHECK(letters.insert(letter).second);
  }
  show_palette(shown.window, shown.window.all_actions());
  auto* palette = shown.window.findChild<QDialog*>("palette");
  REQUIRE(palette != nullptr);
  auto* search = palette->findChild<QLineEdit*>();
  auto* list = palette->findChild<QListWidget*>();
  for (QAction* action : shown.window.all_actions()) {
    search->setText(QString(action->text()).remove('&'));
    CHECK(list->count() >= 1);
  }
  search->clear();
  QTest::keyClicks(search, "theme dark");
  QTest::keyClick(search, Qt::Key_Return);
  CHECK(theme().name == "dark");
  shown.window.set_theme("light");
}

TEST_CASE("the whole walk by keys: ask, choose, compare, copy, undo") {
  Shown shown(small_question());
  MainWindow& window = shown.window;
  const auto press = [&](const QKeySequence& keys) {
    QTest::keySequence(&window, keys);
    QTest::qWait(5);
  };
  const std::string best = window.explorer().detail()->hash;
  window.activateWindow();
  auto* gpus = qobject_cast<QLineEdit*>(window.ask().editor("goal.fix"));
  REQUIRE(gpus != nullptr);
  gpus->setFocus();
  QTest::keyClicks(gpus, "tensor=2");
  QTest::keyClick(gpus, Qt::Key_Return);
  REQUIRE(settles(window.explorer()));
  CHECK(window.explorer().detail()->plan.tensor == 2);
  press(QKeySequence("Ctrl+1"));
  PlanScatter& scatter = window.explore().scatter();
  scatter.setFocus();
  QTest::keyClick(&scatter, Qt::Key_End);
  REQUIRE(settles(window.explorer()));
  press(QKeySequence("Ctrl+6"));
  CHECK(window.compare().isVisible());
  press(QKeySequence("Ctrl+Shift+L"));
  CHECK(QGuiApplication::clipboard()->text().contains("--fix tensor=2"));
  press(QKeySequence("Ctrl+Z"));
  window.explorer().select(-1);
  REQUIRE(happens([&] { return !window.explorer().is_busy(); }));
  window.explorer().select(window.explorer().plans()->best);
  REQUIRE(happens([&] { return window.explorer().detail() && !window.explorer().is_busy(); }));
  CHECK(window.explorer().detail()->hash == best);
}

TEST_CASE("a wrong value in the question is marked and explained until it is right") {
  Shown shown(small_question());
  auto* batch = qobject_cast<QLineEdit*>(shown.window.ask().editor("workload.global_batch"));
  REQUIRE(batch != nullptr);
  const auto type = [&](const QString& text) {
    batch->selectAll();
    QTest::keyClicks(batch, text);
    QTest::keyClick(batch, Qt::Key_Return);
  };
  type("many");
  CHECK(batch->property("wrong").toBool());
  type("64");
  CHECK(!batch->property("wrong").toBool());
  CHECK(shown.window.explorer().question().workload.global_batch == 64);
  type("-1");
  CHECK(batch->property("wrong").toBool());
  shown.window.explorer().history().undo();  // another question: what stands there is right again
  CHECK(!batch->property("wrong").toBool());
  REQUIRE(settles(shown.window.explorer()));
}

TEST_CASE("whatever takes the focus has a name") {
  Shown shown(small_question());
  QStringList unnamed;
  int seen = 0;
  for (const QString& page : MainWindow::page_names()) {
    shown.window.show_page(page);
    QTest::qWait(5);
    for (QWidget* widget : shown.window.findChildren<QWidget*>()) {
      if (widget->focusPolicy() == Qt::NoFocus || !widget->isVisible()) continue;
      if (qobject_cast<QAbstractScrollArea*>(widget->parentWidget()) != nullptr) continue;
      ++seen;
      QAccessibleInterface* face = QAccessible::queryAccessibleInterface(widget);
      if (face == nullptr || face->text(QAccessible::Name).isEmpty()) {
        unnamed << page + ": " + widget->metaObject()->className() + " " + widget->objectName();
      }
    }
  }
  unnamed.removeDuplicates();
  CHECK(seen > 100);
  CHECK_MESSAGE(unnamed.isEmpty(), unnamed.join("; ").toStdString());
}

TEST_CASE("every chart has a table twin with rows") {
  Shown shown(small_question());
  for (const QString& page : MainWindow::page_names()) {
    shown.window.show_page(page);
    for (Chart* chart : shown.window.page(page)->findChildren<Chart*>()) {
      INFO(chart->accessibleName().toStdString());
      CHECK(!chart->summary().isEmpty());
      const bool filled = page != "whatif" && page != "compare";
      if (filled) CHECK(chart->twin()->rowCount() > 0);
    }
  }
}

TEST_CASE("every view is drawn in every theme, without a display, at twice the pixels too") {
  const QTemporaryDir folder;
  const Plan plan = plan_of(*small_plans(), small_plans()->best, prices_of(small_question()));
  const QString file = folder.filePath("plan.json"), report = folder.filePath("report.json");
  write_plan(plan, plain(file));
  write_report(sample_report(plan, prices_of(small_question())), plain(report));
  for (const QString& view : render_views()) {
    if (view == u"whatif") continue;  // asks dozens of questions; the window test below does not
    const QString out = folder.filePath(view + ".png");
    INFO(view.toStdString());
    render_view({.view = view,
                 .out = out,
                 .theme = "dark",
                 .in = {view == u"measured" ? report : file},
                 .width = 900,
                 .height = 700,
                 .scale = view == u"pareto" ? 2.0 : 1.0});
    const QImage image(out);
    REQUIRE(!image.isNull());
    std::set<QRgb> colours;
    for (int y = 0; y < image.height(); y += 3) {
      for (int x = 0; x < image.width(); x += 3) colours.insert(image.pixel(x, y));
    }
    CHECK(colours.size() > 8);
  }
  use_theme(themes().front());
  use_font_scale(1);
}

TEST_CASE("an unknown view is answered with the nearest one") {
  try {
    render_view({.view = "paretto", .out = "x.png"});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("did you mean \"pareto\"") != std::string::npos);
  }
}

TEST_CASE("a session brings the window back") {
  Shown shown(small_question());
  shown.window.show_page("timeline");
  shown.window.explore().set_filter("tensor<=2");
  const Session saved = shown.window.session();
  CHECK(saved.view == "timeline");
  CHECK(saved.filter == "tensor<=2");
  Shown other;
  other.window.explorer().open_now(Opened(saved), "a.session");
  REQUIRE(settles(other.window.explorer()));
  const Session again = other.window.session();
  CHECK(again.view == saved.view);
  CHECK(again.filter == saved.filter);
  CHECK(question_text(again.question) == question_text(saved.question));
  CHECK(again.selected == saved.selected);
}

TEST_SUITE_END();

}  // namespace
}  // namespace imhotep::gui
