#pragma once
// Starts the ranks: the one place that knows the launch line.

#include <span>
#include <string>
#include <vector>

namespace imhotep::executor {

struct LaunchOptions {
  std::string executable;                     // empty: this program
  std::vector<std::string> environment;       // "NAME=value", for the ranks
  std::vector<std::string> mpirun_arguments;  // {"--hostfile", "hosts"}
};

// mpirun and its arguments, as launch_ranks() runs them.
[[nodiscard]] std::vector<std::string> launch_line(int ranks,
                                                   std::span<const std::string> arguments,
                                                   const LaunchOptions& options);

// Runs the program on that many ranks, waits, and returns its exit code: that of the first rank
// that failed; 128 + signal when a signal ended one (said on stderr, by rank); 130 or 143 when the
// user or a scheduler asked to stop. The first such request becomes SIGUSR1 or SIGUSR2 at every
// rank (stop_signal.h), the second ends them.
// Works as root, in containers, and with more ranks than cores. Environment variables that are
// already set win over ours. Requires: one thread; not itself a rank.
// Throws: Missing when there is no mpirun.
[[nodiscard]] int launch_ranks(int ranks, std::span<const std::string> arguments,
                               const LaunchOptions& options = {});

}  // namespace imhotep::executor
