#pragma once
// One line on stderr while something takes long: done/total, rate, remaining time. At most ten
// times a second, and only after two seconds; silent when stderr is no terminal.

#include <chrono>
#include <cstdint>
#include <string>

namespace imhotep::cli {

class Progress {
 public:
  // `unit` is what is counted: "plans", "steps". `enabled`: false silences it altogether.
  Progress(std::string title, std::string unit, bool enabled);
  ~Progress();  // wipes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `note` is shown at the end: "loss 3.21". total 0: unknown.
  void update(std::int64_t done, std::int64_t total, const std::string& note = {});

 private:
  using Clock = std::chrono::steady_clock;
  std::string title_, unit_;
  bool enabled_ = false, shown_ = false;
  Clock::time_point start_, last_;
};

// "loading  2.1 GB/8.2 GB  25%  1.4 GB/s  4.36 s left" where the unit is "bytes", else
// "steps  120/400  30%  12.5 steps/s  22.4 s left  loss 3.21"
[[nodiscard]] std::string progress_line(const std::string& title, const std::string& unit,
                                        std::int64_t done, std::int64_t total, double seconds);

}  // namespace imhotep::cli
