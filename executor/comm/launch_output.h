#pragma once
// What mpirun says on stderr when a run ends badly, reduced to what is news: its framed paragraphs
// about exit codes and aborts repeat what a rank has said already and are dropped; the one about a
// rank that a signal ended is kept as data, and so is what the ranks say of one that died, so that
// both become one message. Everything else passes through at once.

#include <optional>
#include <string>
#include <string_view>

namespace imhotep::executor {

class LaunchOutput {
 public:
  // Takes what arrived, returns what to print.
  [[nodiscard]] std::string feed(std::string_view text);
  // The rest, at the end.
  [[nodiscard]] std::string finish();

  struct Death {
    int rank = 0;
    std::string cause;  // "signal 9 (Killed)"
  };
  [[nodiscard]] const std::optional<Death>& death() const { return death_; }
  // "imhotep: rank 3 has died in layer 5, ..."; empty: nobody missed a rank.
  [[nodiscard]] const std::string& missed() const { return missed_; }

 private:
  std::string line(const std::string& text);
  std::string close_frame();

  std::string pending_;  // a line that may open or close a frame, or lies inside one
  std::string frame_;
  bool in_frame_ = false, at_line_start_ = true;
  std::optional<Death> death_;
  std::string missed_;
};

}  // namespace imhotep::executor
