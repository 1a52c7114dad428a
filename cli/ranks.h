#pragma once
// Commands that run on the ranks of a plan: started by mpirun or srun they are a rank; started by
// hand they start the ranks themselves.

#include <functional>

#include "cli/command.h"
#include "core/spec/plan.h"
#include "executor/comm/bootstrap.h"

namespace imhotep::cli {

// Runs `work` on `world` ranks and returns the exit code. An Error at any rank ends all of them,
// and the first message is the one that is printed.
int on_ranks(int world, const std::function<int(const executor::Bootstrap&)>& work);
// On the ranks of a plan, which all of them must have been given (executor::check_launch).
int on_ranks(const Plan& plan, const std::function<int(const executor::Bootstrap&)>& work);

// Runs imhotep itself with these arguments on `world` ranks (1: a plain child process).
int run_self(int world, const std::vector<std::string>& arguments);
// The same, with standard output read into `output`.
int run_self_captured(const std::vector<std::string>& arguments, std::string& output);

// "AMD EPYC ..., 2 cores, Debian GNU/Linux 12 (bookworm)"
[[nodiscard]] std::string machine_text();

}  // namespace imhotep::cli
