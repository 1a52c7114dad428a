#pragma once
// The frame around every command: finds it, reads its options, runs it, and turns whatever goes
// wrong into one message and the right exit code:
//   0 done · 1 failed while running · 2 wrong usage or bad input file · 3 no feasible plan
//   4 a gate failed · 5 needed data or hardware missing · 130, 143 stopped by a signal

#include <string>
#include <vector>

namespace imhotep::cli {

// `arguments` without the program's name.
[[nodiscard]] int run(std::vector<std::string> arguments);

}  // namespace imhotep::cli
