#include "gui/app/main_window.h"

#include <QCloseEvent>
#include <QDockWidget>
#include <QDragEnterEvent>
#include <QMimeData>
#include <QScrollArea>
#include <QSettings>
#include <QStackedWidget>
#include <QStatusBar>
#include <QVBoxLayout>

#include "core/base/error.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"
#include "gui/views/theme.h"

namespace imhotep::gui {
namespace {

struct PageName {
  const char *name, *title;
};
constexpr PageName kPages[] = {{"explore", "&1 Plans"},
                               {"breakdown", "&2 Breakdown"},
                               {"timeline", "&3 Timeline"},
                               {"placement", "&4 Placement"},
                               {"whatif", "&5 What if"},
                               {"compare", "&6 Compare"},
                               {"run", "&7 Run"}};

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
}

void MainWindow::build_pages() {
  explore_ = new ExplorePage(explorer_);
  breakdown_ = new BreakdownPage(explorer_);
  timeline_ = new TimelinePage(explorer_);
  placement_ = new PlacementPage(explorer_);
  what_if_ = new WhatIfPage(explorer_);
  compare_ = new ComparePage(explorer_);
  run_ = new RunPage(explorer_);
  tabs_ = new QTabWidget;
  tabs_->setDocumentMode(true);
  tabs_->setAccessibleName("Pages");
  tabs_->tabBar()->setAccessibleName("Views");
  tabs_->tabBar()->setExpanding(false);
  for (const PageName& page : kPages) tabs_->addTab(this->page(page.name), page.title);
  auto* work = new QWidget;
  auto* all = new QVBoxLayout(work);
  all->setContentsMargins(0, 0, 0, 0);
  all->setSpacing(0);
  build_summary(*all);
  all->addWidget(tabs_, 1);
  build_welcome();
  stack_ = new QStackedWidget;
  stack_->addWidget(welcome_);
  stack_->addWidget(work);
  setCentralWidget(stack_);
  ask_ = new AskPanel(explorer_);
  auto* dock = new QDockWidget("Question");
  dock->setObjectName("question");
  dock->setFeatures(QDockWidget::DockWidgetMovable | QDockWidget::DockWidgetClosable);
  dock->setWidget(ask_);
  dock->setMinimumWidth(fontMetrics().averageCharWidth() * 44);
  addDockWidget(Qt::LeftDockWidgetArea, dock);
}

void MainWindow::build_summary(QVBoxLayout& layout) {
  auto* card = new QFrame;
  card->setObjectName("card");
  auto* inside = new QVBoxLayout(card);
  inside->setContentsMargins(12, 8, 12, 8);
  inside->setSpacing(2);
  summary_ = new QLabel("No plan yet.");
  summary_->setObjectName("title");
  summary_->setAccessibleName("The chosen plan");
  figures_ = new QLabel;
  figures_->setAccessibleName("Its figures");
  for (QLabel* label : {summary_, figures_}) {
    label->setWordWrap(true);
    label->setTextInteractionFlags(Qt::TextSelectableByMouse);
    inside->addWidget(label);
  }
  auto* margin = new QVBoxLayout;
  margin->setContentsMargins(8, 8, 8, 2);
  margin->addWidget(card);
  layout.addLayout(margin);
}

void MainWindow::build_welcome() {
  auto* inside = new QWidget;
  auto* all = new QVBoxLayout(inside);
  all->setAlignment(Qt::AlignHCenter | Qt::AlignVCenter);
  all->setSpacing(14);
  auto* title = new QLabel("Which plan, and why?");
  QFont large = font();
  large.setPointSizeF(large.pointSizeF() * 1.8);
  title->setFont(large);
  title->setAlignment(Qt::AlignCenter);
  all->addWidget(title);
  auto* steps = new QLabel(
      "1.  Choose a model and a cluster at the left, or open a file.\n"
      "2.  Every legal plan appears as a point; the best one is marked.\n"
      "3.  Choose a point to see where its time and memory go, and ask what if.");
  steps->setWordWrap(true);
  steps->setMinimumWidth(fontMetrics().averageCharWidth() * 76);
  all->addWidget(steps, 0, Qt::AlignHCenter);
  auto* sample = new QPushButton("&Show a sample: 1.3B PR-MoE on 32 A100 GPUs");
  sample->setDefault(true);
  connect(sample, &QPushButton::clicked, this,
          [this] { explorer_.ask(sample_question(), "sample"); });
  auto* open = new QPushButton("&Open a plan, report, model, cluster or search file …");
  connect(open, &QPushButton::clicked, this, &MainWindow::open_dialog);
  for (QPushButton* button : {sample, open}) {
    button->setMinimumHeight(fontMetrics().height() * 5 / 2);
    all->addWidget(button, 0, Qt::AlignHCenter);
  }
  auto* hint = new QLabel("Files can be dropped on the window. Ctrl+Shift+P lists every command.");
  hint->setObjectName("muted");
  hint->setAlignment(Qt::AlignCenter);
  all->addWidget(hint);
  auto* area = new QScrollArea;  // for tiny screens
  area->setWidget(inside);
  area->setWidgetResizable(true);
  area->setFrameShape(QFrame::NoFrame);
  area->setFocusPolicy(Qt::NoFocus);
  welcome_ = area;
}

void MainWindow::build_status() {
  message_ = new QLabel;
  message_->setAccessibleName("Message");
  message_->setTextInteractionFlags(Qt::TextSelectableByMouse);
  message_->setMinimumWidth(10);
  message_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
  busy_ = new QLabel;
  progress_ = new QProgressBar;
  progress_->setMaximumWidth(160);
  progress_->setTextVisible(false);
  progress_->setAccessibleName("Progress");
  progress_->hide();
  cancel_ = new QPushButton("Stop");
  cancel_->setAccessibleName("Stop the search");
  cancel_->hide();
  connect(cancel_, &QPushButton::clicked, &explorer_, &Explorer::cancel);
  statusBar()->addWidget(message_, 1);
  statusBar()->addPermanentWidget(busy_);
  statusBar()->addPermanentWidget(progress_);
  statusBar()->addPermanentWidget(cancel_);
}

QStringList MainWindow::page_names() {
  QStringList names;
  for (const PageName& page : kPages) names << page.name;
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
