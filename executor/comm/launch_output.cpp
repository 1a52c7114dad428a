#include "executor/comm/launch_output.h"

#include <array>
#include <cstdio>

namespace imhotep::executor {
namespace {

constexpr std::string_view kRule = "--------------------------------------------------------------";

bool is_rule(std::string_view line) { return line.substr(0, kRule.size()) == kRule; }

bool repeats_a_rank(const std::string& frame) {
  constexpr std::array kKnown = {"MPI_ABORT was invoked on rank", "a non-zero exit code",
                                 "processes exited with non-zero status",
                                 "mpirun noticed that process rank"};
  for (const char* known : kKnown) {
    if (frame.find(known) != std::string::npos) return true;
  }
  return false;
}

// Single lines about its own workings. Relaying help messages, it may lose a race with its end.
bool is_chatter(const std::string& line) {
  constexpr std::array kKnown = {"sent help message help-mpi-api.txt", "orte_base_help_aggregate",
                                 "ORTE_ERROR_LOG: Data unpack would read past end of buffer",
                                 "orte/util/show_help.c at line", "mpirun: Forwarding signal"};
  for (const char* known : kKnown) {
    if (line.find(known) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

std::string LaunchOutput::close_frame() {
  in_frame_ = false;
  const std::size_t at = frame_.find("process rank ");
  int rank = 0;
  char cause[64] = "";
  if (at != std::string::npos &&
      std::sscanf(frame_.c_str() + at,
                  "process rank %d with PID %*d on node %*s exited on %63[^.\n]", &rank,
                  cause) == 2) {
    death_ = Death{.rank = rank, .cause = cause};
  }
  std::string text = repeats_a_rank(frame_) ? std::string() : std::move(frame_);
  frame_.clear();
  return text;
}

std::string LaunchOutput::line(const std::string& text) {
  if (is_rule(text)) {
    const bool closes = in_frame_;
    frame_ += text;
    in_frame_ = true;
    return closes ? close_frame() : std::string();
  }
  if (in_frame_) {
    frame_ += text;
    return {};
  }
  if (missed_.empty() && text.starts_with("imhotep: rank ") &&
      text.find(" has died in ") != std::string::npos) {
    missed_ = text.substr(0, text.find('\n'));
    return {};
  }
  return is_chatter(text) ? std::string() : text;
}

std::string LaunchOutput::feed(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view part = text.substr(0, end == std::string_view::npos ? end : end + 1);
    text.remove_prefix(part.size());
    const bool whole = end != std::string_view::npos;
    const bool held =
        in_frame_ || !pending_.empty() ||
        (at_line_start_ && std::string_view("-[mi").find(part.front()) != std::string_view::npos);
    if (!held && !(whole && at_line_start_)) {
      out += part;  // a progress line, or its continuation
    } else {
      pending_ += part;
      if (whole) {
        out += line(pending_);
        pending_.clear();
      }
    }
    at_line_start_ = whole;
  }
  return out;
}

std::string LaunchOutput::finish() {
  std::string out = std::move(frame_) + std::move(pending_);
  frame_.clear();
  pending_.clear();
  in_frame_ = false;
  return out;
}

}  // namespace imhotep::executor
