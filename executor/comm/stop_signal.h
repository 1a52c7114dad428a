#pragma once
// A wish to stop, from Ctrl-C or from a scheduler, that a run fulfils at its next safe point.
//
// mpirun answers SIGINT and SIGTERM by killing all ranks at once, so launch_ranks() sends it
// SIGUSR1 and SIGUSR2 instead, which mpirun passes on to every rank.

namespace imhotep::executor {

// SIGINT, SIGTERM, SIGUSR1 (for SIGINT) and SIGUSR2 (for SIGTERM) now only leave a note. A second
// SIGINT or SIGTERM ends the process at once.
void watch_stop_signals();

// SIGINT or SIGTERM once one was noted, else 0. Ranks may see it at different steps: agree first.
[[nodiscard]] int stop_signal();

// 130 for SIGINT, 143 for SIGTERM.
[[nodiscard]] inline int stop_exit_code(int signal) { return 128 + signal; }

}  // namespace imhotep::executor
