#include "gui/views/run_page.h"

#include <QFileDialog>
#include <QFormLayout>
#include <QGridLayout>
#include <QScrollArea>
#include <QStandardPaths>
#include <QTemporaryFile>
#include <QVBoxLayout>

#include "core/base/error.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"
#include "gui/views/panel.h"

namespace imhotep::gui {
namespace {

enum What { Train, Calibrate, BenchTraining, BenchDecode };

// Where the plan to run is written: a folder of this user, so that it outlives the window.
QString plan_file(const std::string& hash) {
  const QString folder = QStandardPaths::writableLocation(QStandardPaths::AppDataLocation);
  QDir().mkpath(folder);
  return folder + "/plan-" + qt(hash) + ".json";
}

QWidget* with_browse(QLineEdit& edit, const QString& title, QWidget* owner) {
  auto* box = new QWidget;
  auto* row = new QHBoxLayout(box);
  row->setContentsMargins(0, 0, 0, 0);
  row->addWidget(&edit, 1);
  auto* browse = new QToolButton;
  browse->setText("…");
  browse->setAccessibleName("Browse: " + title);
  QObject::connect(browse, &QToolButton::clicked, owner, [&edit, title, owner] {
    const QString folder = QFileDialog::getExistingDirectory(owner->window(), title, edit.text());
    if (!folder.isEmpty()) edit.setText(folder);
  });
  row->addWidget(browse);
  return box;
}

}  // namespace

RunPage::RunPage(Explorer& explorer, QWidget* parent) : QWidget(parent), explorer_(explorer) {
  auto* all = new QHBoxLayout(this);
  all->setContentsMargins(8, 8, 8, 8);
  all->addWidget(build_form(), 2);
  all->addWidget(build_charts(), 3);
  constexpr int kSecondMs = 1000;
  clock_.setInterval(kSecondMs);
  connect(&clock_, &QTimer::timeout, this, [this] {
    constexpr double kSilentSeconds = 60;
    if (child_.silent_seconds() > kSilentSeconds) {
      state_->setText(QString("Running; it has said nothing for %1 s.")
                          .arg(child_.silent_seconds(), 0, 'f', 0));
    }
  });
  connect(&child_, &Child::said, words_, &QPlainTextEdit::appendPlainText);
  connect(&child_, &Child::log_grew, this, [this] { refresh_charts(child_.log()); });
  connect(&child_, &Child::ended, this, &RunPage::finish);
  connect(&explorer_, &Explorer::details_changed, this, [this] {
    refresh_command();
    refresh_prediction();
  });
  refresh_form();
}

QWidget* RunPage::build_form() {
  auto* box = new QWidget;
  auto* all = new QVBoxLayout(box);
  all->setContentsMargins(0, 0, 8, 0);
  auto* heading = new QLabel("Run");
  heading->setObjectName("title");
  all->addWidget(heading);
  what_ = new QComboBox;
  what_->addItems(
      {"train the chosen plan", "calibrate this machine", "bench training", "bench decoding"});
  data_ = new QLineEdit;
  data_->setPlaceholderText("folder of text files");
  folder_ = new QLineEdit;
  folder_->setPlaceholderText("run folder, made anew");
  steps_ = new QSpinBox;
  steps_->findChild<QLineEdit*>()->setAccessibleName("Steps");
  steps_->setRange(1, 10'000'000);
  steps_->setValue(100);
  auto* form = new QFormLayout;
  form->addRow(label_for("&What", what_), what_);
  data_->setAccessibleName("Data folder");
  folder_->setAccessibleName("Run folder");
  form->addRow("Data", with_browse(*data_, "Folder of text files", this));
  form->addRow("Run folder", with_browse(*folder_, "Run folder", this));
  form->addRow(label_for("Ste&ps", steps_), steps_);
  all->addLayout(form);
  command_ = new QLabel;
  command_->setWordWrap(true);
  command_->setObjectName("muted");
  command_->setAccessibleName("Command to be started");
  command_->setTextInteractionFlags(Qt::TextSelectableByMouse);
  all->addWidget(command_);
  start_ = new QPushButton("Sta&rt");
  stop_ = new QPushButton("Sto&p");
  auto* show = new QPushButton("Show a &finished run…");
  auto* row = new FlowLayout;
  row->addWidget(start_);
  row->addWidget(stop_);
  row->add_trailing(show);
  all->addLayout(row);
  state_ = new QLabel("Nothing is running.");
  state_->setWordWrap(true);
  state_->setAccessibleName("State of the run");
  all->addWidget(state_);
  words_ = new QPlainTextEdit;
  words_->setReadOnly(true);
  words_->setTabChangesFocus(true);
  words_->setMaximumBlockCount(5000);
  words_->setAccessibleName("Log of the run");
  words_->setPlaceholderText("What the program says appears here.");
  all->addWidget(words_, 1);
  connect(start_, &QPushButton::clicked, this, &RunPage::start);
  connect(stop_, &QPushButton::clicked, this, [this] {
    state_->setText("Asked to stop: it finishes its step and saves a checkpoint.");
    child_.stop();
  });
  connect(show, &QPushButton::clicked, this, [this] {
    const QString folder = QFileDialog::getExistingDirectory(window(), "Run folder");
    if (!folder.isEmpty()) show_folder(folder);
  });
  connect(what_, &QComboBox::activated, this, &RunPage::refresh_form);
  connect(steps_, &QSpinBox::valueChanged, this, &RunPage::refresh_command);
  for (QLineEdit* edit : {data_, folder_}) {
    connect(edit, &QLineEdit::textChanged, this, &RunPage::refresh_command);
  }
  return box;
}

QWidget* RunPage::build_charts() {
  auto* box = new QWidget;
  auto* grid = new QGridLayout(box);
  grid->setContentsMargins(0, 0, 0, 0);
  loss_ = new LinePlot("Loss", "loss (nats a token)");
  speed_ = new LinePlot("Time of a step", "time of a step (ms)");
  load_ = new LoadPlot;
  int row = 0;
  for (Plot* plot :
       {static_cast<Plot*>(loss_), static_cast<Plot*>(speed_), static_cast<Plot*>(load_)}) {
    auto* title = new QLabel(plot->accessibleName());
    title->setObjectName("title");
    grid->addWidget(title, row++, 0);
    grid->addWidget(plot, row, 0);
    grid->setRowStretch(row++, 1);
  }
  auto* area = new QScrollArea;  // for small windows and large texts
  area->setWidget(box);
  area->setWidgetResizable(true);
  area->setFrameShape(QFrame::NoFrame);
  area->setFocusPolicy(Qt::NoFocus);
  area->setObjectName("page");
  return area;
}

QStringList RunPage::arguments(QString& problem) const {
  const Question& asked = explorer_.question();
  const auto what = static_cast<What>(what_->currentIndex());
  if (what == Calibrate) return {"calibrate", "--fast", "--json"};
  if (!explorer_.has_question()) {
    problem = "Ask for plans first.";
    return {};
  }
  if (what == BenchTraining || what == BenchDecode) {
    return {"bench", what == BenchTraining ? "training" : "decode", qt(asked.model.name), "--json"};
  }
  const Details& detail = explorer_.detail();
  if (!detail) {
    problem = "Choose a plan first.";
  } else if (detail->plan.workload.kind != WorkloadKind::Training) {
    problem = "The chosen plan generates; only training plans are trained.";
  } else if (detail->plan.device != DeviceKind::Cpu && detail->plan.cluster != "local-gpu") {
    problem = QString(
                  "The chosen plan is for %1; this machine runs plans for its processors (cluster "
                  "local) and its own GPUs (local-gpu).")
                  .arg(qt(detail->plan.cluster));
  } else if (data_->text().isEmpty() || folder_->text().isEmpty()) {
    problem = "Name a data folder and a run folder.";
  }
  if (!problem.isEmpty()) return {};
  return {"train", plan_file(detail->hash), "--data",  data_->text(),
          "--out", folder_->text(),         "--steps", QString::number(steps_->value()),
          "--json"};
}

void RunPage::refresh_form() {
  const bool trains = what_->currentIndex() == Train;
  for (QWidget* widget : {static_cast<QWidget*>(data_), static_cast<QWidget*>(folder_),
                          static_cast<QWidget*>(steps_)}) {
    widget->setEnabled(trains);
  }
  refresh_command();
}

void RunPage::refresh_command() {
  QString problem;
  const QStringList words = arguments(problem);
  command_->setText(words.isEmpty() ? problem : "imhotep " + words.join(' '));
  start_->setEnabled(!words.isEmpty() && !child_.is_running());
  stop_->setEnabled(child_.is_running());
}

void RunPage::start() {
  QString problem;
  const QStringList words = arguments(problem);
  if (words.isEmpty()) return;
  const bool trains = words.front() == u"train";
  try {
    if (trains) write_plan(explorer_.detail()->plan, plain(words[1]));
  } catch (const Error& error) {
    state_->setText("⚠ " + qt(error.what()));
    return;
  }
  words_->clear();
  words_->appendPlainText("imhotep " + words.join(' '));
  refresh_charts(RunLog());
  refresh_prediction();
  state_->setText("Running.");
  clock_.start();
  child_.start(words, trains ? folder_->text() : QString());
  refresh_command();
}

void RunPage::refresh_charts(const RunLog& log) {
  LinePlot::Line loss{.name = "training"}, held{.name = "held out", .points = true};
  LinePlot::Line time{.name = "measured"};
  for (const RunStep& step : log.steps()) {
    loss.x.push_back(step.step);
    loss.y.push_back(step.loss);
    time.x.push_back(step.step);
    time.y.push_back(step.step_us / 1000);
  }
  for (const HeldOut& point : log.held_out()) {
    held.x.push_back(point.step);
    held.y.push_back(point.loss);
  }
  loss_->show_lines(held.x.empty() ? std::vector{loss} : std::vector{loss, held});
  speed_->show_lines({time});
  load_->show_load(log.load() ? log.load()->shares : std::vector<std::vector<double>>{});
  if (!log.steps().empty()) {
    const RunStep& last = log.steps().back();
    state_->setText(QString("Step %1: loss %2, %3 tokens a second.")
                        .arg(last.step)
                        .arg(last.loss, 0, 'f', 3)
                        .arg(last.tokens_per_s, 0, 'f', 0));
  }
}

void RunPage::refresh_prediction() {
  const Details& detail = explorer_.detail();
  if (!detail || detail->plan.workload.kind != WorkloadKind::Training) {
    speed_->show_prediction(0, 0, 0);
    return;
  }
  const Estimate& step = detail->anatomy.step.time_us;
  speed_->show_prediction(step.value / 1000, step.low / 1000, step.high / 1000);
}

void RunPage::finish(bool well, const QString& message) {
  clock_.stop();
  state_->setText((well ? "" : "⚠ ") + message);
  if (!child_.output().trimmed().isEmpty()) {
    words_->appendPlainText(QString::fromUtf8(child_.output()).trimmed());
  }
  if (well && what_->currentIndex() == Train) load_report(folder_->text());
  refresh_command();
}

void RunPage::load_report(const QString& folder) {
  const QString file = folder + "/report.json";
  if (!QFileInfo::exists(file)) return;
  try {
    const RunReport report = read_report(plain(file));
    load_->show_load(report.expert_load);
    explorer_.open_now(report, file);
  } catch (const Error& error) {
    state_->setText("⚠ " + qt(error.what()));
  }
}

void RunPage::show_folder(const QString& folder) {
  QFile file(folder + "/log.jsonl");
  if (!file.open(QIODevice::ReadOnly)) {
    state_->setText(QString("⚠ %1 cannot be read: %2").arg(file.fileName(), file.errorString()));
    return;
  }
  RunLog log;
  log.add(file.readAll() + "\n");
  refresh_charts(log);
  state_->setText(
      QString("%1: %2 steps.").arg(QFileInfo(folder).fileName()).arg(log.steps().size()));
  if (log.broken_lines() > 0) {
    words_->appendPlainText(
        QString("%1 lines of the log are broken and left out.").arg(log.broken_lines()));
  }
  load_report(folder);
}

}  // namespace imhotep::gui
