#include "gui/presenter/child.h"

#include <QCoreApplication>
#include <QFileInfo>
#include <QStandardPaths>
#include <csignal>

namespace imhotep::gui {

QString imhotep_program() {
  const QString named = qEnvironmentVariable("IMHOTEP_PROGRAM");
  if (!named.isEmpty()) return named;
  for (const char* place : {"/imhotep", "/../imhotep"}) {
    const QString beside = QCoreApplication::applicationDirPath() + place;
    if (QFileInfo(beside).isExecutable() && QFileInfo(beside).isFile()) return beside;
  }
  return QStandardPaths::findExecutable("imhotep");
}

Child::Child(QObject* parent) : QObject(parent) {
  constexpr int kPollMs = 250;
  poll_.setInterval(kPollMs);
  killer_.setSingleShot(true);
  connect(&poll_, &QTimer::timeout, this, &Child::read_log);
  connect(&killer_, &QTimer::timeout, &process_, &QProcess::kill);
  connect(&process_, &QProcess::readyReadStandardOutput, this,
          [this] { output_ += process_.readAllStandardOutput(); });
  connect(&process_, &QProcess::readyReadStandardError, this,
          [this] { read_words(process_.readAllStandardError()); });
  connect(&process_, &QProcess::finished, this, &Child::finish);
  connect(&process_, &QProcess::errorOccurred, this, [this](QProcess::ProcessError error) {
    if (error != QProcess::FailedToStart) return;
    poll_.stop();
    Q_EMIT ended(
        false, QString("%1 cannot be started: %2").arg(process_.program(), process_.errorString()));
  });
}

Child::~Child() {
  process_.disconnect(this);
  if (!is_running()) return;
  process_.terminate();
  constexpr int kPatienceMs = 2000;
  if (!process_.waitForFinished(kPatienceMs)) process_.kill();
  process_.waitForFinished(kPatienceMs);
}

void Child::start(const QStringList& arguments, const QString& run_folder) {
  const QString program = imhotep_program();
  if (program.isEmpty()) {
    Q_EMIT ended(false,
                 "The program imhotep was not found: expected beside imhotep-gui or on the "
                 "path, or named by IMHOTEP_PROGRAM.");
    return;
  }
  start_program(program, arguments, run_folder);
}

void Child::start_program(const QString& program, const QStringList& arguments,
                          const QString& run_folder) {
  if (is_running()) return;
  log_.clear();
  output_.clear();
  errors_.clear();
  stopped_ = false;
  log_file_.close();
  log_file_.setFileName(run_folder.isEmpty() ? QString() : run_folder + "/log.jsonl");
  heard_.start();
  poll_.start();
  process_.start(program, arguments);
}

void Child::stop(int patience_ms) {
  if (!is_running()) return;
  stopped_ = true;
  // SIGINT: finish the step, save, end. terminate() would send SIGTERM.
  if (process_.processId() > 0) ::kill(static_cast<pid_t>(process_.processId()), SIGINT);
  killer_.start(patience_ms);
}

double Child::silent_seconds() const {
  return heard_.isValid() ? static_cast<double>(heard_.elapsed()) / 1000 : 0;
}

void Child::read_words(const QByteArray& words) {
  heard_.restart();
  errors_ += words;
  // Progress lines overwrite one another with carriage returns.
  errors_.replace("\r\033[K", "\n");
  for (qsizetype end = errors_.indexOf('\n'); end >= 0; end = errors_.indexOf('\n')) {
    const QString line = QString::fromUtf8(errors_.left(end)).trimmed();
    errors_.remove(0, end + 1);
    if (!line.isEmpty()) Q_EMIT said(line);
  }
}

void Child::read_log() {
  if (log_file_.fileName().isEmpty()) return;
  if (!log_file_.isOpen() && !log_file_.open(QIODevice::ReadOnly)) return;
  const QByteArray piece = log_file_.readAll();
  if (piece.isEmpty()) return;
  heard_.restart();
  log_.add(piece);
  Q_EMIT log_grew();
}

void Child::finish(int code, QProcess::ExitStatus status) {
  poll_.stop();
  killer_.stop();
  read_log();
  output_ += process_.readAllStandardOutput();
  read_words(process_.readAllStandardError() + "\n");
  if (status == QProcess::CrashExit) {
    Q_EMIT ended(false, stopped_ ? "Stopped for good: it did not end when asked to."
                                 : "It ended by a signal.");
  } else if (code == 0) {
    Q_EMIT ended(true, "Done.");
  } else {
    Q_EMIT ended(stopped_, stopped_ ? QString("Stopped.")
                                    : QString("It ended with exit code %1; its last words are in "
                                              "the log.")
                                          .arg(code));
  }
}

}  // namespace imhotep::gui
