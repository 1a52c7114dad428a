// The parts of the window: pages, question, summary, welcome, status line.

#include <QScrollArea>
#include <QStatusBar>
#include <QVBoxLayout>

#include "gui/app/main_window.h"

namespace imhotep::gui {

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
  for (const auto& page : kPages) tabs_->addTab(this->page(page.name), page.title);
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
  dock->setTitleBarWidget(build_heading());  // Qt's own does not grow with the text
  addDockWidget(Qt::LeftDockWidgetArea, dock);
  question_ = dock;
}

QWidget* MainWindow::build_heading() {
  auto* bar = new QFrame;
  bar->setObjectName("heading");
  auto* row = new QHBoxLayout(bar);
  row->setContentsMargins(8, 4, 4, 4);
  row->addWidget(new QLabel("Question"), 1);
  auto* close = new QToolButton;
  close->setText("✕");
  close->setAutoRaise(true);
  close->setAccessibleName("Hide the question");
  close->setToolTip("Hide (Ctrl+Shift+Q)");
  connect(close, &QToolButton::clicked, this, [this] { show_question(false); });
  row->addWidget(close);
  return bar;
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
  all->setSpacing(14);
  all->addStretch(1);
  auto* title = new QLabel("Which plan, and why?");
  QFont large = font();
  large.setPointSizeF(large.pointSizeF() * 1.8);
  title->setFont(large);
  title->setAlignment(Qt::AlignCenter);
  all->addWidget(title);
  auto* steps = new QLabel(
      "1.  Choose a model and a cluster in the question, or open a file.\n"
      "2.  Every legal plan appears as a point; the best one is marked.\n"
      "3.  Choose a point to see where its time and memory go, and ask what if.");
  steps->setWordWrap(true);
  steps->setMaximumWidth(fontMetrics().averageCharWidth() * 76);
  auto* middle = new QHBoxLayout;
  middle->addStretch(1);
  middle->addWidget(steps, 1000);  // up to its largest width before the sides get any
  middle->addStretch(1);
  all->addLayout(middle);
  auto* sample = new QPushButton("&Show a sample: 1.3B PR-MoE on 32 A100 GPUs");
  sample->setDefault(true);
  connect(sample, &QPushButton::clicked, this,
          [this] { explorer_.ask(sample_question(), "sample"); });
  auto* open = new QPushButton("&Open a plan, report, model, cluster or search file …");
  connect(open, &QPushButton::clicked, this, &MainWindow::open_dialog);
  auto* own = new QPushButton("&Ask a question of your own");
  connect(own, &QPushButton::clicked, this, [this] { show_question(true); });
  for (QPushButton* button : {sample, own, open}) {
    button->setMinimumHeight(fontMetrics().height() * 5 / 2);
    all->addWidget(button, 0, Qt::AlignHCenter);
  }
  auto* hint = new QLabel("Files can be dropped on the window. Ctrl+Shift+P lists every command.");
  hint->setObjectName("muted");
  hint->setWordWrap(true);
  hint->setAlignment(Qt::AlignCenter);
  all->addWidget(hint);
  all->addStretch(1);
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

}  // namespace imhotep::gui
