#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "core/base/fail.h"
#include "core/base/units.h"

namespace imhotep::cli {

using namespace std::chrono_literals;

Progress::Progress(std::string title, std::string unit, bool enabled)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      enabled_(enabled && isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

std::string progress_line(const std::string& title, const std::string& unit, std::int64_t done,
                          std::int64_t total, double seconds) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const bool bytes = unit == "bytes";
  const auto number = [&](std::int64_t n) {
    return bytes ? format_bytes(static_cast<double>(n)) : std::to_string(n);
  };
  std::string line = fmt::format("{}  {}", title, number(done));
  if (total > 0) {
    const double share = static_cast<double>(done) / static_cast<double>(total);
    line += fmt::format("/{}  {}%", number(total), static_cast<int>(100 * share));
  }
  line +=
      bytes ? fmt::format("  {}/s", format_bytes(rate)) : fmt::format("  {:.4g} {}/s", rate, unit);
  if (total > done && rate > 0) {
    line += fmt::format("  {} left", format_time(static_cast<double>(total - done) / rate * 1e6));
  }
  return line;
}

void Progress::update(std::int64_t done, std::int64_t total, const std::string& note) {
  if (!enabled_) return;
  const Clock::time_point now = Clock::now();
  if (now - start_ < 2s || (shown_ && now - last_ < 100ms)) return;
  last_ = now;
  shown_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const std::string line = progress_line(title_, unit_, done, total, seconds);
  std::fprintf(stderr, "\r\033[K%s%s%s", line.c_str(), note.empty() ? "" : "  ", note.c_str());
  std::fflush(stderr);
}

}  // namespace imhotep::cli
