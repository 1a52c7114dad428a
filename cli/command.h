#pragma once
// A subcommand: its name, what it does, its options, and what to run once they are read.
// Adding one: write its file, declare it in cli/commands.h, add a line to the list there.

#include <functional>
#include <string>

#include "cli/arguments.h"

namespace imhotep::cli {

// What every command is told about how to speak. Results go to stdout, everything else to stderr.
struct Session {
  bool json = false;   // stdout holds exactly one JSON value
  bool quiet = false;  // no progress
  bool color = false;  // stdout may carry colours
};

using Run = std::function<int(const Session&)>;  // returns the exit code

struct Command {
  const char* name;
  const char* summary;
  Run (*setup)(Arguments&);  // declares the options; the result keeps their values
};

}  // namespace imhotep::cli
