#include "executor/train/training_log.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/fail.h"
#include "core/base/json_document.h"

namespace imhotep::executor {

TrainingLog::TrainingLog(std::string file, std::int64_t last_step) : file_(std::move(file)) {
  if (last_step > 0 && std::filesystem::exists(file_)) keep(last_step);
  stream_ = std::fopen(file_.c_str(), last_step > 0 ? "ab" : "wb");
  if (stream_ == nullptr) fail("{}: cannot write: {}", file_, std::strerror(errno));
}

TrainingLog::~TrainingLog() { std::fclose(stream_); }

void TrainingLog::keep(std::int64_t last_step) {
  std::istringstream lines(read_text_file(file_));
  std::string kept;
  for (std::string text; std::getline(lines, text);) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object() || !json.contains("step")) continue;  // cut off by a crash
    const std::int64_t step = json["step"];
    if (step > last_step) continue;
    kept += text + "\n";
    const auto at = static_cast<double>(step);
    if (json.contains("loss")) training_.push_back({at, json["loss"]});
    if (json.contains("held_out_loss")) held_out_.push_back({at, json["held_out_loss"]});
  }
  write_text_file(file_, kept);
}

void TrainingLog::step(std::int64_t step, const StepResult& result, double tokens_per_s) {
  training_.push_back({static_cast<double>(step), result.loss});
  const Replays& replays = result.replays;
  const std::string replayed = replays.count == 0
                                   ? ""
                                   : fmt::format(", \"replays\": {}, \"overflow_rows\": {}",
                                                 replays.count, replays.worst.rows);
  line(
      fmt::format("{{\"step\": {}, \"loss\": {:.6f}, \"aux_loss\": {:.6f}, \"grad_norm\": {:.6g}, "
                  "\"learning_rate\": {:.6g}, \"tokens_per_s\": {:.1f}, \"step_us\": {:.1f}{}}}",
                  step, result.loss, result.aux_loss, result.gradient_norm, result.learning_rate,
                  tokens_per_s, result.time_us, replayed));
}

void TrainingLog::held_out(std::int64_t step, double loss, std::int64_t tokens) {
  const auto at = static_cast<double>(step);
  if (!held_out_.empty() && held_out_.back().step == at) return;
  held_out_.push_back({at, loss});
  line(fmt::format("{{\"step\": {}, \"held_out_loss\": {:.6f}, \"held_out_tokens\": {}}}", step,
                   loss, tokens));
}

void TrainingLog::expert_load(std::int64_t step, const ExpertShares& shares) {
  std::vector<std::string> layers;
  for (const auto& layer : shares)
    layers.push_back(fmt::format("[{:.4f}]", fmt::join(layer, ", ")));
  line(fmt::format("{{\"step\": {}, \"expert_load\": [{}]}}", step, fmt::join(layers, ", ")));
}

void TrainingLog::line(const std::string& text) {
  std::fputs(text.c_str(), stream_);
  std::fputc('\n', stream_);
  if (std::fflush(stream_) != 0) fail("{}: cannot write: {}", file_, std::strerror(errno));
}

}  // namespace imhotep::executor
