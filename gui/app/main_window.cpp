#include "gui/app/main_window.h"

#include <QCloseEvent>
#include <QDragEnterEvent>
#include <QMimeData>
#include <QSettings>
#include <QStackedWidget>

#include "core/base/error.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"
#include "gui/views/theme.h"

namespace imhotep::gui {
namespace {

constexpr const char* kFolded = "The question is folded away: Ctrl+Shift+Q shows it.";

}  // namespace

MainWindow::MainWindow(QWidget* parent) : QMainWindow(parent) {
  setWindowTitle("Imhotep, plan explorer");
  setObjectName("main");
  setAcceptDrops(true);
  build_pages();
  build_status();
  build_file_menu();
  build_edit_menu();
  build_view_menu();
  build_plan_menu();
  build_help_menu();
  connect(&explorer_, &Explorer::told, this, &MainWindow::tell);
  auto words = std::make_shared<QString>();
  connect(&deployment_, &Child::said, this, [words](const QString& line) { *words = line; });
  connect(&deployment_, &Child::ended, this, [this, words](bool well, const QString& message) {
    tell(well ? "The deployment folder is written." : message + " " + *words, !well);
  });
  connect(&explorer_, &Explorer::plans_changed, this, &MainWindow::refresh_summary);
  connect(&explorer_, &Explorer::details_changed, this, &MainWindow::refresh_summary);
  connect(&explorer_, &Explorer::question_changed, this, [this] { stack_->setCurrentIndex(1); });
  connect(&explorer_, &Explorer::files_changed, this, &MainWindow::refresh_recent);
  connect(&explorer_, &Explorer::session_opened, this, &MainWindow::apply_session);
  connect(&explorer_, &Explorer::busy_changed, this, [this](const QString& text, double fraction) {
    busy_->setText(text.isEmpty() ? QString() : text + " …");
    progress_->setVisible(!text.isEmpty());
    cancel_->setVisible(!text.isEmpty());
    progress_->setRange(0, fraction < 0 ? 0 : 1000);
    progress_->setValue(fraction < 0 ? 0 : rounded(fraction * 1000));
  });
  resize(1320, 860);
  fit_question();
  resizeDocks({question_}, {fontMetrics().averageCharWidth() * 44}, Qt::Horizontal);
}

// Where the question would leave a page too little room it folds away, and comes back with the
// room.
void MainWindow::fit_question() {
  constexpr int kLeast = 34, kUsual = 44, kNarrow = 120;  // letters
  const int letter = fontMetrics().averageCharWidth();
  question_->setMinimumWidth(letter * kLeast);
  const bool narrow = width() < letter * kNarrow;
  if (narrow == std::exchange(narrow_, narrow)) return;
  if (narrow && !question_->isHidden()) {
    question_->hide();
    folded_ = true;
    tell(kFolded, false);
  } else if (!narrow && folded_) {
    show_question(true);
    resizeDocks({question_}, {letter * kUsual}, Qt::Horizontal);
  }
}

void MainWindow::show_question(bool shown) {
  folded_ = false;
  question_->setVisible(shown);
  if (shown && message_->text() == kFolded) tell("", false);
}

void MainWindow::resizeEvent(QResizeEvent* event) {
  QMainWindow::resizeEvent(event);
  fit_question();
}

void MainWindow::changeEvent(QEvent* event) {
  QMainWindow::changeEvent(event);
  if (event->type() == QEvent::FontChange) fit_question();
}

QStringList MainWindow::page_names() {
  QStringList names;
  for (const auto& page : kPages) names << page.name;
  return names;
}

QWidget* MainWindow::page(const QString& name) {
  if (name == u"explore") return explore_;
  if (name == u"breakdown") return breakdown_;
  if (name == u"timeline") return timeline_;
  if (name == u"placement") return placement_;
  if (name == u"whatif") return what_if_;
  if (name == u"compare") return compare_;
  return name == u"run" ? run_ : nullptr;
}

void MainWindow::show_page(const QString& name) {
  if (QWidget* wanted = page(name)) tabs_->setCurrentWidget(wanted);
}

void MainWindow::refresh_summary() {
  const Details& detail = explorer_.detail();
  const Plans& plans = explorer_.plans();
  if (!plans) return;
  if (!detail) {
    summary_->setText("No plan fits.");
    figures_->setText(plans->note);
    return;
  }
  const bool best = explorer_.selected() == plans->best;
  summary_->setText(
      explorer_.outside()
          ? QString("Opened plan  ·  %1 ranks: tensor %2 × data %3, layers differ from one another")
                .arg(detail->plan.world)
                .arg(detail->plan.tensor)
                .arg(detail->plan.data)
          : (best ? "Best plan  ·  " : "Chosen plan  ·  ") + plans->title(explorer_.selected()));
  const Prediction& predicted = detail->plan.predicted;
  const bool trains = detail->plan.workload.kind == WorkloadKind::Training;
  QString text =
      QString("%1 %2").arg(trains ? "step" : "decode step", estimate_text(predicted.time_us));
  if (!trains) text += "  ·  prompt " + time_text(predicted.prompt_us.value);
  text += QString("  ·  %L1 tokens/s").arg(predicted.tokens_per_s, 0, 'f', 0);
  const auto used = static_cast<double>(detail->memory.total());
  const auto limit = static_cast<double>(detail->limit_bytes);
  text += QString("  ·  %1 of %2 (%3 %)")
              .arg(bytes_text(used), bytes_text(limit))
              .arg(100 * used / limit, 0, 'f', 0);
  if (predicted.cost_per_mtoken > 0) {
    text += QString("  ·  %1 %2 a million tokens")
                .arg(predicted.cost_per_mtoken, 0, 'g', 3)
                .arg(qt(plans->question.cluster.currency));
  }
  figures_->setText(text + "  ·  " + plans->prices);
}

void MainWindow::tell(const QString& message, bool problem) {
  message_->setText((problem ? "⚠ " : "") + QString(message).replace('\n', "; "));
  message_->setToolTip(message);
  message_->setAccessibleDescription(message);
}

void MainWindow::set_theme(const QString& name) { use_theme(theme_named(name)); }

void MainWindow::set_font_scale(double scale) {
  font_scale_ = std::clamp(scale, 0.6, 3.0);
  use_font_scale(font_scale_);
}

void MainWindow::dragEnterEvent(QDragEnterEvent* event) {
  if (event->mimeData()->hasUrls()) event->acceptProposedAction();
}

void MainWindow::dropEvent(QDropEvent* event) {
  for (const QUrl& url : event->mimeData()->urls()) {
    if (url.isLocalFile()) explorer_.open(url.toLocalFile());
  }
}

Session MainWindow::session() const {
  Session session{.question = explorer_.question()};
  session.knobs.assign(explorer_.knobs().begin(), explorer_.knobs().end());
  session.view = kPages[tabs_->currentIndex()].name;
  session.theme = plain(theme().name);
  session.filter = plain(explore_->table().filter());
  session.x_metric = plain(explore_->x());
  session.y_metric = plain(explore_->y());
  session.colour_by = plain(explore_->colour());
  for (const QString& name : explore_->table().hidden())
    session.hidden_columns.push_back(plain(name));
  if (explorer_.detail()) session.selected = explorer_.detail()->hash;
  return session;
}

void MainWindow::apply_session(const Session& session) {
  set_theme(qt(session.theme));
  show_page(qt(session.view));
  QStringList hidden;
  for (const std::string& name : session.hidden_columns) hidden << qt(name);
  explore_->table().set_hidden(hidden);
  // Filter and axes belong to the plans that are being looked for now.
  auto once = std::make_shared<QMetaObject::Connection>();
  *once = connect(&explorer_, &Explorer::plans_changed, this, [this, once, session] {
    disconnect(*once);
    explore_->set_axes(qt(session.x_metric), qt(session.y_metric), qt(session.colour_by));
    explore_->set_filter(qt(session.filter));
  });
}

void MainWindow::restore_settings() {
  if (private_) return;
  const QSettings settings;
  set_theme(settings.value("theme", "light").toString());
  set_font_scale(settings.value("font_scale", 1.0).toDouble());
  explorer_.set_recent_files(settings.value("recent").toStringList());
  refresh_recent();
  restoreGeometry(settings.value("geometry").toByteArray());
  restoreState(settings.value("state").toByteArray());
}

void MainWindow::closeEvent(QCloseEvent* event) {
  if (!private_) {
    QSettings settings;
    settings.setValue("theme", theme().name);
    settings.setValue("font_scale", font_scale_);
    settings.setValue("recent", explorer_.recent_files());
    settings.setValue("geometry", saveGeometry());
    settings.setValue("state", saveState());
  }
  QMainWindow::closeEvent(event);
}

}  // namespace imhotep::gui
