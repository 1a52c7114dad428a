#pragma once
// What a run tells while it goes on: the JSON lines of its log, read as they grow.

#include <QString>
#include <QStringList>
#include <string>
#include <vector>

namespace imhotep::gui {

struct RunStep {
  double step = 0, loss = 0, tokens_per_s = 0, step_us = 0;
};
struct HeldOut {
  double step = 0, loss = 0;
};

class RunLog {
 public:
  // Pieces may end anywhere; lines that are no JSON objects are counted and left out.
  void add(const QByteArray& piece);
  void clear() { *this = RunLog(); }

  [[nodiscard]] const std::vector<RunStep>& steps() const { return steps_; }
  [[nodiscard]] const std::vector<HeldOut>& held_out() const { return held_out_; }
  [[nodiscard]] int broken_lines() const { return broken_; }

 private:
  void add_line(const QByteArray& line);
  QByteArray rest_;
  std::vector<RunStep> steps_;
  std::vector<HeldOut> held_out_;
  int broken_ = 0;
};

}  // namespace imhotep::gui
