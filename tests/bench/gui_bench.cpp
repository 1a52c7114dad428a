// What the window costs: first paint, a file of 100,000 plans, hover, a timeline of 200,000 slices,
// What if over ten thousand plans, the longest time in which the window answered nobody, memory.
// Not a test: ninja bench_gui && QT_QPA_PLATFORM=offscreen tests/gui/bench_gui
// [what-if|walk|million]

#include <QApplication>
#include <QClipboard>
#include <QElapsedTimer>
#include <QFile>
#include <QMetaEnum>
#include <QTemporaryDir>
#include <QTest>
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "gui/app/main_window.h"
#include "gui/presenter/search_file.h"
#include "gui/views/theme.h"
#include "profiles/catalogue.h"

namespace imhotep::gui {
namespace {

double ms_of(const std::function<void()>& act) {
  QElapsedTimer timer;
  timer.start();
  act();
  return static_cast<double>(timer.nsecsElapsed()) / 1e6;
}

void print(const char* what, std::vector<double> values, const char* unit) {
  std::sort(values.begin(), values.end());
  std::printf("%-58s median %9.2f  largest %9.2f  %s (%zu times)\n", what,
              values[values.size() / 2], values.back(), unit, values.size());
  std::fflush(stdout);
}

// Of this thread alone; what a busy machine cannot lengthen.
double thread_ms() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

// Remembers which event kept the window's thread longest.
class Watched : public QApplication {
 public:
  using QApplication::QApplication;
  bool notify(QObject* receiver, QEvent* event) override {
    if (depth_ > 0) return QApplication::notify(receiver, event);
    const QByteArray name = receiver->metaObject()->className();
    const int type = event->type();
    const double before = thread_ms();
    ++depth_;
    const bool handled = QApplication::notify(receiver, event);
    --depth_;
    note(name + ", " + QMetaEnum::fromType<QEvent::Type>().valueToKey(type), thread_ms() - before);
    return handled;
  }
  void note(const QByteArray& what, double ms) {
    if (ms > longest_ms_) {
      longest_ms_ = ms;
      what_ = what;
    }
  }
  std::pair<double, QByteArray> take() { return {std::exchange(longest_ms_, 0), what_}; }

 private:
  int depth_ = 0;
  double longest_ms_ = 0;
  QByteArray what_;
};

double memory_mb(const char* field) {
  QFile status("/proc/self/status");
  if (!status.open(QIODevice::ReadOnly)) return 0;
  for (const QByteArray& line : status.readAll().split('\n')) {
    if (line.startsWith(field)) return line.simplified().split(' ').value(1).toDouble() / 1000;
  }
  return 0;
}

// Notices how long events had to wait.
class Stalls {
 public:
  Stalls() {
    timer_.setInterval(1);
    clock_.start();
    QObject::connect(&timer_, &QTimer::timeout, [this] {
      longest_ms_ = std::max(longest_ms_, static_cast<double>(clock_.nsecsElapsed()) / 1e6);
      clock_.restart();
    });
    timer_.start();
  }
  double take() { return std::exchange(longest_ms_, 0); }
  void forget() {
    clock_.restart();
    longest_ms_ = 0;
  }

 private:
  QTimer timer_;
  QElapsedTimer clock_;
  double longest_ms_ = 0;
};

void wait_for(const std::function<bool()>& done) {
  while (!done()) QApplication::processEvents(QEventLoop::WaitForMoreEvents, 5);
}

// Plans repeated until there are `rows` of them, each a little different.
PlanSet many_plans(std::int64_t rows) {
  Question asked = sample_question();
  PlanSet plans = explore(asked, prices_of(asked), Stop(), {.most = rows});
  const std::int64_t own = plans.size();
  for (Column& column : plans.columns) {
    column.values.resize(static_cast<std::size_t>(rows));
    for (std::int64_t row = own; row < rows; ++row) {
      const double wiggle = column.is_measure() ? 1 + 1e-3 * static_cast<double>(row / own) : 1;
      column.values[row] = column.values[row % own] * wiggle;
    }
  }
  return plans;
}

Timing long_timing(std::size_t slices) {
  Timing timing;
  timing.names = {"experts up", "dispatch", "attention"};
  timing.tracks = {{.title = "predicted · compute"},
                   {.title = "predicted · exchange"},
                   {.title = "measured · compute", .measured = true},
                   {.title = "measured · exchange", .measured = true}};
  for (std::size_t i = 0; i < slices; ++i) {
    Track& track = timing.tracks[i % 4];
    const double start = static_cast<double>(i / 4) * 10;
    track.slices.push_back({.start_us = start,
                            .duration_us = 2 + static_cast<double>(i * 7919 % 700) / 100,
                            .name = static_cast<int>(i % 3),
                            .kind = static_cast<std::uint8_t>(i % 10),
                            .critical = i % 5 == 0});
    timing.end_us = start + 10;
  }
  return timing;
}

void measure_scatter(MainWindow& window) {
  PlanScatter& scatter = window.explore().scatter();
  std::vector<double> hover, repaint;
  for (int i = 0; i < 200; ++i) {
    const QPointF at(scatter.width() * (0.15 + 0.6 * (i % 20) / 20.0),
                     scatter.height() * (0.1 + 0.7 * (i / 20) / 10.0));
    QMouseEvent move(QEvent::MouseMove, at, at, Qt::NoButton, Qt::NoButton, {});
    hover.push_back(ms_of([&] {
      QApplication::sendEvent(&scatter, &move);
      scatter.repaint();
    }));
  }
  print("hover: mouse moved, card painted, 100,000 plans", hover, "ms");
  for (int i = 0; i < 20; ++i) {
    scatter.set_logarithmic(i % 2 == 0);
    repaint.push_back(ms_of([&] {
      scatter.repaint();
      wait_for([&] { return scatter.is_drawn(); });
    }));
  }
  print("all 100,000 points drawn anew, beside the window", repaint, "ms");
  std::vector<double> sorts, filters;
  PlanTable& table = window.explore().table();
  for (int i = 0; i < 10; ++i) {
    const auto arranged = [&] { wait_for([&] { return !table.is_arranging(); }); };
    sorts.push_back(ms_of([&] {
      table.sort(i % 5, Qt::AscendingOrder);
      arranged();
    }));
    filters.push_back(ms_of([&] {
      table.set_filter(i % 2 == 0 ? "tensor<=4 && memory<70GB" : "");
      arranged();
    }));
  }
  print("table of 100,000 plans sorted, beside the window", sorts, "ms");
  print("table of 100,000 plans filtered, beside the window", filters, "ms");
  table.set_filter("");
}

void measure_timeline() {
  TimelineChart chart;
  chart.resize(1280, 400);
  chart.show_timing(long_timing(200'000));
  chart.show();
  wait_for([&] { return chart.isVisible(); });
  for (int i = 0; i < 20; ++i) QApplication::processEvents(QEventLoop::AllEvents, 5);
  std::vector<double> paints;
  for (int i = 0; i < 60; ++i) {
    chart.zoom(i < 30 ? 1.3 : 1 / 1.3, chart.to_us() * 0.37);
    paints.push_back(ms_of([&] { (void)chart.grab(); }));
  }
  print("timeline of 200,000 slices painted while zooming", paints, "ms");
}

// Of all threads; what a busy machine cannot lengthen.
double cpu_ms() { return 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void measure_what_if() {
  Question asked =
      default_question(profiles::find_model("1.3b-moe-128"),
                       profiles::find_cluster("azure-nd-a100-v4"), WorkloadKind::Training);
  asked.goal.gpus = 128;
  KnobValues values = knobs_of(asked);
  std::vector<double> times, processor;
  std::int64_t plans = 0;
  for (int i = 0; i < 12; ++i) {
    values[static_cast<std::size_t>(Knob::Links)] = 0.5 + 0.1 * i;
    const double before = cpu_ms();
    times.push_back(ms_of([&] { plans = ask(asked, values, Stop()).plans; }));
    processor.push_back(cpu_ms() - before);
  }
  const PlanSet plan_set = explore(asked, prices_of(asked), Stop());
  std::vector<double> first;
  for (int i = 0; i < 12; ++i) {
    values[static_cast<std::size_t>(Knob::Links)] = 0.45 + 0.1 * i;
    first.push_back(ms_of([&] {
      if (!ask_quickly(plan_set, values, Stop())) std::abort();
    }));
  }
  print("What if: first answer, of the best plans", first, "ms");
  std::printf("What if looks at %lld plans\n", static_cast<long long>(plans));
  print("What if: the whole answer", times, "ms");
  print("What if: the whole answer, processor time", processor, "ms");
}

void walk(Watched& app, const QString& file) {
  Stalls stalls;
  MainWindow window;
  window.stay_private();
  window.show();
  wait_for([&] { return window.isVisible(); });
  stalls.forget();
  (void)app.take();
  const auto report = [&](const char* what) {
    wait_for([&] { return window.explore().scatter().is_drawn(); });
    for (int i = 0; i < 20; ++i) QApplication::processEvents(QEventLoop::AllEvents, 5);
    const auto [event_ms, event] = app.take();
    std::printf("%-32s longest stall %7.1f ms  longest event %6.1f ms of processor: %s\n", what,
                stalls.take(), event_ms, event.constData());
  };
  Explorer& explorer = window.explorer();
  const Question asked = sample_question();
  const double before = thread_ms();
  explorer.ask(asked, "ask");
  app.note("Explorer::ask", thread_ms() - before);
  wait_for([&] { return explorer.detail() && !explorer.is_busy(); });
  report("walk: ask");
  explorer.select(explorer.plans()->size() / 2);
  wait_for([&] { return !explorer.is_busy(); });
  report("walk: choose a plan");
  for (const QString& page : MainWindow::page_names()) {
    window.show_page(page);
    report(("walk: show " + page).toUtf8().constData());
  }
  explorer.open(file);
  wait_for([&] { return explorer.plans()->size() >= 100'000 && !explorer.is_busy(); });
  report("walk: open 100,000 plans");
  window.show_page("explore");
  report("walk: show 100,000 plans");
}

// A million plans in the window: how long each wish takes, and the longest time in which the window
// answered nobody meanwhile.
void measure_million(Watched& app) {
  constexpr std::int64_t kMillion = 1'000'000;
  const QTemporaryDir folder;
  const QString file = folder.filePath("million.search");
  write_search(many_plans(kMillion), file);
  Stalls stalls;
  MainWindow window;
  window.stay_private();
  window.show();
  wait_for([&] { return window.isVisible(); });
  PlanTable& table = window.explore().table();
  const auto settled = [&] {
    return !window.explorer().is_busy() && !table.is_arranging() &&
           window.explore().scatter().is_drawn();
  };
  const auto measure = [&](
                           const char* what, const std::function<void()>& act,
                           const std::function<bool()>& begun = [] { return true; }) {
    for (int i = 0; i < 20; ++i) QApplication::processEvents(QEventLoop::AllEvents, 5);
    stalls.forget();
    (void)app.take();
    QElapsedTimer timer;
    timer.start();
    const double before = thread_ms();
    act();
    app.note("the call itself", thread_ms() - before);
    wait_for(begun);
    for (int i = 0; i < 2; ++i) {  // a picture may ask for another
      wait_for(settled);
      QApplication::processEvents(QEventLoop::AllEvents, 5);
      wait_for(settled);
    }
    const double whole = static_cast<double>(timer.nsecsElapsed()) / 1e6;
    const auto [event_ms, event] = app.take();
    std::printf("%-40s %7.0f ms  longest stall %6.1f ms  longest event %6.1f ms of processor: %s\n",
                what, whole, stalls.take(), event_ms, event.constData());
    std::fflush(stdout);
  };
  measure(
      "a million: opened", [&] { window.explorer().open(file); },
      [&] { return window.explorer().plans() && window.explorer().plans()->size() == kMillion; });
  QTableView& view = window.explore().table_view();
  const auto column = [&](const char* name) { return window.explorer().plans()->index_of(name); };
  measure("a million: sorted by time",
          [&] { view.sortByColumn(column("time"), Qt::DescendingOrder); });
  measure("a million: then by memory",
          [&] { view.sortByColumn(column("memory"), Qt::AscendingOrder); });
  measure("a million: filtered", [&] { window.explore().set_filter("tensor<=4 && memory<70GB"); });
  measure("a million: a plan chosen", [&] { window.explorer().select(table.plan_at(1000)); });
  measure("a million: other axes", [&] { window.explore().set_axes("memory", "tokens", "data"); });
  measure("a million: all again", [&] { window.explore().set_filter(""); });
  measure("a million: only differing columns", [&] { table.set_only_differing(true); });
  QGuiApplication::clipboard()->clear();
  measure(
      "a million: 100,000 rows copied", [&] { window.explore().copy(CopyFormat::Csv); },
      [] { return QGuiApplication::clipboard()->text().count('\n') > 100'000; });
  std::printf("%-58s %9.1f MB\n", "memory with a million plans shown (VmRSS)", memory_mb("VmRSS"));
}

// A window of its own, as when the program starts.
void only_walk(Watched& app) {
  use_font_scale(1);
  use_theme(themes().front());
  const QTemporaryDir folder;
  const QString file = folder.filePath("many.search");
  write_search(many_plans(100'000), file);
  walk(app, file);
}

int run(Watched& app, const QElapsedTimer& started) {
  use_font_scale(1);
  use_theme(themes().front());
  QTemporaryDir folder;
  const QString file = folder.filePath("many.search");
  {
    MainWindow window;
    window.stay_private();
    window.show();
    wait_for([&] { return window.isVisible(); });
    window.repaint();
    std::printf("%-58s %9.2f ms\n", "first paint, since main began",
                static_cast<double>(started.nsecsElapsed()) / 1e6);
    std::printf("%-58s %9.1f MB\n", "memory then (VmRSS)", memory_mb("VmRSS"));
    write_search(many_plans(100'000), file);
    std::vector<double> opens;
    for (int i = 0; i < 5; ++i) {
      opens.push_back(ms_of([&] {
        const PlanSet plans = read_search(file);
        if (plans.size() != 100'000) std::abort();
      }));
    }
    print("search file of 100,000 plans read", opens, "ms");
    QElapsedTimer timer;
    timer.start();
    window.explorer().open(file);
    wait_for([&] { return window.explorer().plans() != nullptr; });
    window.repaint();
    wait_for([&] { return window.explore().scatter().is_drawn(); });
    window.repaint();
    std::printf("%-58s %9.2f ms\n", "the same opened in the window and painted",
                static_cast<double>(timer.nsecsElapsed()) / 1e6);
    wait_for([&] { return !window.explorer().is_busy(); });
    measure_scatter(window);
    std::printf("%-58s %9.1f MB\n", "memory with 100,000 plans shown (VmRSS)", memory_mb("VmRSS"));
  }
  measure_timeline();
  measure_what_if();
  walk(app, file);
  std::printf("%-58s %9.1f MB\n", "largest memory of all (VmHWM)", memory_mb("VmHWM"));
  return 0;
}

}  // namespace
}  // namespace imhotep::gui

int main(int argc, char** argv) {
  QElapsedTimer started;
  started.start();
  if (qEnvironmentVariableIsEmpty("QT_QPA_PLATFORM")) qputenv("QT_QPA_PLATFORM", "offscreen");
  imhotep::gui::Watched app(argc, argv);
  if (app.arguments().value(1) == "what-if") return imhotep::gui::measure_what_if(), 0;
  if (app.arguments().value(1) == "walk") return imhotep::gui::only_walk(app), 0;
  if (app.arguments().value(1) == "million") {
    imhotep::gui::use_font_scale(1);
    imhotep::gui::use_theme(imhotep::gui::themes().front());
    return imhotep::gui::measure_million(app), 0;
  }
  return imhotep::gui::run(app, started);
}
