// What a reader sees: contrast, ticks, texts that fit, pictures.

#include <doctest/doctest.h>

#include <QComboBox>
#include <QDialog>
#include <QDockWidget>
#include <QFile>
#include <QHeaderView>
#include <QLabel>
#include <QListWidget>
#include <QStyleOption>
#include <QTest>
#include <QXmlStreamReader>
#include <set>

#include "core/base/error.h"
#include "gui/app/main_window.h"
#include "gui/presenter/basics.h"
#include "gui/views/plots.h"
#include "gui/views/theme.h"
#include "tests/gui/shown.h"

namespace imhotep::gui {
namespace {

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

// Widgets that are laid out narrower than they may be, and texts wider than their buttons and
// labels.
QStringList squeezed(QWidget& page) {
  QStringList found;
  for (QWidget* widget : page.findChildren<QWidget*>()) {
    if (!widget->isVisible() || widget->inherits("QScrollBar")) continue;
    const QString name =
        widget->accessibleName().isEmpty() ? widget->objectName() : widget->accessibleName();
    const auto say = [&](const char* what) {
      found << QString("%1 %2: %3 of %4 points")
                       .arg(widget->metaObject()->className(), name)
                       .arg(widget->width())
                       .arg(std::max(widget->minimumSizeHint().width(), widget->minimumWidth())) +
                   what;
    };
    if (widget->width() < widget->minimumWidth()) say(", its minimum");
    auto* label = qobject_cast<QLabel*>(widget);
    const bool whole = qobject_cast<QAbstractButton*>(widget) != nullptr ||
                       qobject_cast<QComboBox*>(widget) != nullptr ||
                       (label != nullptr && !label->wordWrap() && !label->text().isEmpty() &&
                        label->sizePolicy().horizontalPolicy() != QSizePolicy::Ignored);
    if (whole && widget->width() < widget->minimumSizeHint().width()) say(", its text");
  }
  return found;
}

TEST_CASE("small screens and large texts cut nothing, and the question folds away") {
  struct Screen {
    int width, height;
    double scale;
    bool folds;
  };
  for (const Screen& screen : {Screen{800, 600, 1, true}, Screen{1024, 768, 1, false},
                               Screen{1600, 900, 2, true}, Screen{1366, 768, 1.25, false}}) {
    Shown shown(small_question());
    MainWindow& window = shown.window;
    window.set_font_scale(screen.scale);
    window.resize(screen.width, screen.height);
    QTest::qWait(20);
    auto* question = window.findChild<QDockWidget*>("question");
    for (const bool asked : {false, true}) {
      if (asked && question->isHidden()) QTest::keySequence(&window, QKeySequence("Ctrl+Shift+Q"));
      for (const QString& page : MainWindow::page_names()) {
        window.show_page(page);
        QTest::qWait(20);
        INFO(page.toStdString(), " at ", screen.width, " x ", screen.height, ", text ",
             screen.scale, asked ? ", with the question" : "");
        if (!asked) CHECK(question->isHidden() == screen.folds);
        for (QLabel* label : window.page(page)->findChildren<QLabel*>()) {
          REQUIRE(label->font().pointSizeF() == doctest::Approx(10 * screen.scale));
        }
        CHECK(window.width() == screen.width);
        CHECK(window.height() == screen.height);
        for (QTableView* table : window.page(page)->findChildren<QTableView*>()) {
          if (!table->isVisible()) continue;
          CHECK(table->verticalHeader()->defaultSectionSize() >= table->fontMetrics().height());
        }
        const QStringList cut = squeezed(*window.page(page));
        CHECK_MESSAGE(cut.isEmpty(), cut.join("; ").toStdString());
      }
      const QString folder = qEnvironmentVariable("IMHOTEP_TEST_PICTURES");
      for (const char* page : {"explore", "run"}) {
        if (folder.isEmpty()) break;
        window.show_page(page);
        QTest::qWait(50);
        (void)window.grab().save(QString("%1/%2-%3-%4.png")
                                     .arg(folder, page)
                                     .arg(screen.width)
                                     .arg(asked ? "question" : "alone"));
      }
    }
    const QTableView& table = window.explore().table_view();
    const QString words = table.model()->headerData(2, Qt::Horizontal).toString();
    CHECK(table.columnWidth(2) > table.fontMetrics().horizontalAdvance(words));
    window.resize(screen.width * 2, screen.height);
    QTest::qWait(20);
    CHECK(!question->isHidden());
    window.set_font_scale(1);
  }
}

TEST_CASE("arrows of combo boxes grow with the text") {
  const auto arrow = [](double scale) {
    use_font_scale(scale);
    QComboBox box;
    box.addItem("one");
    box.resize(box.sizeHint());
    QStyleOptionComboBox option;
    option.initFrom(&box);
    option.rect = box.rect();
    const QRect place =
        box.style()->subControlRect(QStyle::CC_ComboBox, &option, QStyle::SC_ComboBoxArrow, &box);
    const QImage drawn = box.grab().toImage();
    int inked = 0;  // columns of the arrow's part, within its frame, that hold ink
    for (int x = place.left() + 2; x < place.right() - 2; ++x) {
      for (int y = 4; y < drawn.height() - 4; ++y) {
        if (QColor(drawn.pixel(x, y)).lightness() < 100) {
          ++inked;
          break;
        }
      }
    }
    return inked;
  };
  const int usual = arrow(1), large = arrow(2);
  use_font_scale(1);
  CHECK(usual >= 5);
  CHECK(large >= usual * 3 / 2);
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

TEST_SUITE_END();

}  // namespace
}  // namespace imhotep::gui
