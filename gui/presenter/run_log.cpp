#include "gui/presenter/run_log.h"

#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>

namespace imhotep::gui {

void RunLog::add(const QByteArray& piece) {
  rest_ += piece;
  qsizetype begin = 0;
  for (qsizetype end = rest_.indexOf('\n'); end >= 0; end = rest_.indexOf('\n', begin)) {
    add_line(rest_.mid(begin, end - begin));
    begin = end + 1;
  }
  rest_.remove(0, begin);
}

void RunLog::add_line(const QByteArray& line) {
  if (line.trimmed().isEmpty()) return;
  const QJsonObject object = QJsonDocument::fromJson(line).object();
  const double step = object["step"].toDouble(-1);
  if (step < 0) {
    ++broken_;
  } else if (object.contains("held_out_loss")) {
    held_out_.push_back({step, object["held_out_loss"].toDouble()});
  } else if (object.contains("expert_load")) {
    load_ = ExpertLoad{.step = step};
    for (const QJsonValue layer : object["expert_load"].toArray()) {
      std::vector<double>& shares = load_->shares.emplace_back();
      for (const QJsonValue share : layer.toArray()) shares.push_back(share.toDouble());
    }
  } else {
    // A resumed run tells some steps again.
    while (!steps_.empty() && steps_.back().step >= step) steps_.pop_back();
    steps_.push_back({step, object["loss"].toDouble(), object["tokens_per_s"].toDouble(),
                      object["step_us"].toDouble()});
  }
}

}  // namespace imhotep::gui
