#pragma once
// The program `imhotep` as a child process: calibrate, train, bench. Its words come line by line,
// its run folder is read as it grows, and it can be stopped: first as Ctrl-C would, then for good.

#include <QElapsedTimer>
#include <QFile>
#include <QObject>
#include <QProcess>
#include <QTimer>

#include "gui/presenter/run_log.h"

namespace imhotep::gui {

// $IMHOTEP_PROGRAM, else beside this program, else on the path; empty: nowhere.
[[nodiscard]] QString imhotep_program();

class Child : public QObject {
  Q_OBJECT
 public:
  explicit Child(QObject* parent = nullptr);
  ~Child() override;

  // `run_folder`: where log.jsonl will grow; may be empty.
  void start(const QStringList& arguments, const QString& run_folder);
  void start_program(const QString& program, const QStringList& arguments,
                     const QString& run_folder);
  // Asks to end; whoever does not end within `patience_ms` is killed.
  void stop(int patience_ms = 10'000);
  [[nodiscard]] bool is_running() const { return process_.state() != QProcess::NotRunning; }
  [[nodiscard]] const RunLog& log() const { return log_; }
  [[nodiscard]] const QByteArray& output() const { return output_; }  // stdout so far
  // Seconds in which it said nothing; a hint that it may hang.
  [[nodiscard]] double silent_seconds() const;

 Q_SIGNALS:
  void said(const QString& line);
  void log_grew();
  void ended(bool well, const QString& message);

 private:
  void read_words(const QByteArray& words);
  void read_log();
  void finish(int code, QProcess::ExitStatus status);

  QProcess process_;
  QTimer poll_, killer_;
  QFile log_file_;
  RunLog log_;
  QByteArray output_, errors_;
  QElapsedTimer heard_;
  bool stopped_ = false;
};

}  // namespace imhotep::gui
