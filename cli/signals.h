#pragma once
// Ctrl-C and TERM: the first asks to stop with what there is, the second stops at once.

namespace imhotep::cli {

void catch_signals();

// 0, or the exit code that the signal received asks for: 130 (SIGINT), 143 (SIGTERM).
[[nodiscard]] int signal_exit_code();

}  // namespace imhotep::cli
