#include <doctest/doctest.h>

#include <QAccessible>
#include <QClipboard>
#include <QDialog>
#include <QFile>
#include <QLabel>
#include <QLineEdit>
#include <QListWidget>
#include <QMenuBar>
#include <QTest>
#include <QXmlStreamReader>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "gui/app/main_window.h"
#include "gui/app/render.h"
#include "gui/presenter/basics.h"
#include "gui/views/plots.h"
#include "gui/views/theme.h"
#include "tests/gui/samples.h"

namespace imhotep::gui {
namespace {

struct Shown {
  MainWindow window;
  Shown() {
    window.stay_private();
    window.show();
  }
  explicit Shown(const Question& asked) : Shown() {
    window.explorer().ask(asked, "ask");
    REQUIRE(settles(window.explorer()));
  }
};

TEST_SUITE_BEGIN("window");

TEST_CASE("texts are readable in every theme") {
  for (const Theme& t : themes()) {
    INFO(t.name.toStdString());
    for (const QColor& background : {t.window, t.base, t.raised}) {
      for (const QColor& text : {t.text, t.muted, t.good, t.bad}) {
        CHECK(contrast_ratio(text, background) >= 4.5);
      }
      CHECK(contrast_ratio(t.accent, background) >= 4.5);
    }
    CHECK(contrast_ratio(t.on_accent, t.accent) >= 4.5);
    for (const QColor& series : t.series) {
      CHECK(contrast_ratio(series, t.base) >= 3);
      CHECK(contrast_ratio(readable_on(series), series) >= 4.5);
    }
  }
  CHECK(contrast_ratio(Qt::black, Qt::white) == doctest::Approx(21));
  CHECK(contrast_ratio(Qt::red, Qt::red) == doctest::Approx(1));
}

TEST_CASE("axes have round ticks inside their range, and texts that tell them apart") {
  const std::pair<double, double> kRanges[] = {
      {0, 1}, {3.7, 912}, {1e-3, 2e-3}, {-5, 5}, {1e9, 8e10}};
  for (const auto& [low, high] : kRanges) {
    for (const bool logarithmic : {false, true}) {
      if (logarithmic && low <= 0) continue;
      Axis axis{.low = low, .high = high, .logarithmic = logarithmic};
      const std::vector<double> ticks = axis.ticks(6);
      INFO(low, " to ", high);
      REQUIRE(ticks.size() >= 2);
      std::set<QString> texts;
      for (const double tick : ticks) {
        CHECK(axis.position(tick) >= -1e-6);
        CHECK(axis.position(tick) <= 1 + 1e-6);
        CHECK(axis.value_at(axis.position(tick)) == doctest::Approx(tick));
        texts.insert(axis.tick_text(tick, ticks[1] - ticks[0]));
      }
      CHECK(texts.size() == ticks.size());
    }
  }
}

TEST_CASE("logarithmic axes have few ticks where there is little room") {
  for (const auto& [low, high] : {std::pair{15.0, 800.0}, {0.9, 31.0}, {2e3, 3e5}}) {
    const Axis axis{.low = low, .high = high, .logarithmic = true};
    for (const int about : {3, 4, 8}) {
      const std::vector<double> ticks = axis.ticks(about);
      INFO(low, " to ", high, ", about ", about);
      CHECK(ticks.size() >= 2);
      CHECK(count_of(ticks) <= about + 2);
    }
  }
  CHECK(Axis{}.tick_text(-50, 50) == QString(QChar(0x2212)) + "50");
}

TEST_CASE("what stands in the cells of the placement is readable in every theme") {
  for (const Theme& t : themes()) {
    use_theme(t);
    for (double part = 0; part <= 1; part += 0.05) {
      INFO(t.name.toStdString(), ", ", part);
      for (const QColor& fill : {shade_of_experts(part), shade_of_link(part)}) {
        CHECK(contrast_ratio(readable_on(fill), fill) >= 6);
      }
    }
  }
  use_theme(themes().front());
}

TEST_CASE("many points are drawn beside the window, and found once they are") {
  PlanSet many = *small_plans();
  constexpr std::int64_t kRows = 30'000;
  const std::int64_t own = many.size();
  for (Column& column : many.columns) {
    column.values.resize(kRows);
    for (std::int64_t row = own; row < kRows; ++row) {
      const double wiggle = column.is_measure() ? 1 + 1e-4 * static_cast<double>(row / own) : 1;
      column.values[row] = column.values[row % own] * wiggle;
    }
  }
  std::vector<std::int64_t> rows(kRows);
  std::iota(rows.begin(), rows.end(), 0);
  PlanScatter chart;
  chart.resize(700, 400);
  chart.show_plans(std::make_shared<const PlanSet>(many), rows);
  chart.show();
  const auto drawn = [&] {
    (void)chart.grab();
    return happens([&] { return chart.is_drawn(); });
  };
  REQUIRE(drawn());
  const std::int64_t first = chart.front().front();
  CHECK(chart.point_at(chart.place_of(first)) == first);
  chart.set_axes("memory", "time", "data");
  CHECK(chart.point_at(chart.place_of(first)) == -1);  // those points are no longer there
  REQUIRE(drawn());
  CHECK(chart.point_at(chart.place_of(first)) == first);
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

TEST_CASE("a line chart without lines uses its whole width, and its legend comes and goes") {
  const auto columns = [](LinePlot& plot) {
    plot.resize(600, 300);
    const QImage drawn = plot.grab().toImage();
    int first = drawn.width(), last = 0;  // with anything but the background of the middle line
    for (int x = 0; x < drawn.width(); ++x) {
      if (drawn.pixel(x, drawn.height() / 3) == drawn.pixel(2, 2)) continue;
      first = std::min(first, x);
      last = std::max(last, x);
    }
    return std::pair(first * 600 / drawn.width(), last * 600 / drawn.width());
  };
  LinePlot plot("Loss", "loss (nats a token)");
  CHECK(columns(plot).second > 500);
  plot.show_lines(
      {{.name = "a", .x = {1, 2}, .y = {1, 2}}, {.name = "b", .x = {1, 2}, .y = {2, 1}}});
  CHECK(columns(plot).second > 500);
  plot.show_lines({});
  CHECK(columns(plot).second > 500);
}

TEST_CASE("the palette is as wide as its longest command, and shows whole rows") {
  Shown shown;
  shown.window.set_font_scale(2);
  show_palette(shown.window, shown.window.all_actions());
  auto* dialog = shown.window.findChild<QDialog*>("palette");
  REQUIRE(dialog != nullptr);
  auto* list = dialog->findChild<QListWidget*>();
  CHECK(dialog->width() > list->sizeHintForColumn(0));
  CHECK(list->viewport()->height() >= list->sizeHintForRow(0));
  CHECK(list->viewport()->height() % list->sizeHintForRow(0) == 0);  // no row is cut
  dialog->close();
  shown.window.set_font_scale(1);
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

TEST_CASE("pictures as SVG hold texts and points, and are the same each time") {
  Shown shown(small_question());
  const QTemporaryDir folder;
  BreakdownChart chart;
  chart.resize(800, 500);
  chart.show_detail(shown.window.explorer().detail(), BreakdownBy::Class);
  QByteArray texts[2];
  for (int i = 0; i < 2; ++i) {
    const QString out = folder.filePath(QString("%1.svg").arg(i));
    export_widget(chart, out, 1);
    QFile file(out);
    REQUIRE(file.open(QIODevice::ReadOnly));
    texts[i] = file.readAll();
    QXmlStreamReader reader(texts[i]);
    int words = 0;
    while (!reader.atEnd()) {
      reader.readNext();
      if (reader.isStartElement() && reader.name() == u"text") ++words;
    }
    CHECK_MESSAGE(!reader.hasError(), reader.errorString().toStdString());
    CHECK(words > 10);
  }
  CHECK(texts[0] == texts[1]);
  export_widget(shown.window.breakdown().panel(), folder.filePath("a.pdf"), 1);
  QFile pdf(folder.filePath("a.pdf"));
  REQUIRE(pdf.open(QIODevice::ReadOnly));
  CHECK(pdf.read(5) == "%PDF-");
  CHECK_THROWS_AS(export_widget(shown.window, folder.filePath("a.gif"), 1), Error);
  CHECK_THROWS_AS(export_widget(shown.window, "/nowhere/a.png", 1), Error);
}

TEST_CASE("an unknown view is answered with the nearest one") {
  try {
    render_view({.view = "paretto", .out = "x.png"});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("did you mean \"pareto\"") != std::string::npos);
  }
}

TEST_CASE("tiny windows and large texts are survived") {
  Shown shown(small_question());
  shown.window.set_font_scale(2);
  shown.window.resize(320, 240);
  for (const QString& page : MainWindow::page_names()) {
    shown.window.show_page(page);
    QTest::qWait(5);
    CHECK(!shown.window.grab().isNull());
  }
  shown.window.set_font_scale(1);
}

TEST_CASE("texts of What if and Compare are never cut, however large they are") {
  Shown shown(small_question());
  shown.window.resize(900, 560);
  for (const double scale : {1.0, 2.0}) {
    shown.window.set_font_scale(scale);
    for (const QString& page : {QString("whatif"), QString("compare")}) {
      shown.window.show_page(page);
      QTest::qWait(20);
      int seen = 0;
      for (QLabel* label : shown.window.page(page)->findChildren<QLabel*>()) {
        if (!label->isVisible() || !label->wordWrap() || label->text().isEmpty()) continue;
        INFO(page.toStdString(), ", ", label->accessibleName().toStdString());
        CHECK(label->height() >= label->heightForWidth(label->width()));
        ++seen;
      }
      CHECK(seen >= 1);
    }
  }
  shown.window.set_font_scale(1);
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
