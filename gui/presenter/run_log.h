#pragma once
// What a run tells while it goes on: the JSON lines of its log, read as they grow.

#include <QString>
#include <QStringList>
#include <optional>
#include <string>
#include <vector>

namespace imhotep::gui {

struct RunStep {
  double step = 0, loss = 0, tokens_per_s = 0, step_us = 0;
};
struct HeldOut {
  double step = 0, loss = 0;
};

// Shares of the routes since the last of these lines, by MoE layer and expert.
struct ExpertLoad {
  double step = 0;
  std::vector<std::vector<double>> shares;
};

class RunLog {
 public:
  // Pieces may end anywhere; lines that are no JSON objects are counted and left out.
  void add(const QByteArray& piece);
  void clear() { *this = RunLog(); }

  [[nodiscard]] const std::vector<RunStep>& steps() const { return steps_; }
  [[nodiscard]] const std::vector<HeldOut>& held_out() const { return held_out_; }
  [[nodiscard]] const std::optional<ExpertLoad>& load() const { return load_; }  // the latest
  [[nodiscard]] int broken_lines() const { return broken_; }

 private:
  void add_line(const QByteArray& line);
  QByteArray rest_;
  std::vector<RunStep> steps_;
  std::vector<HeldOut> held_out_;
  std::optional<ExpertLoad> load_;
  int broken_ = 0;
};

}  // namespace imhotep::gui
