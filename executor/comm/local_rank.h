#pragma once
// Which of a machine's devices is this process's: what the launcher says in the environment.
// Known: Open MPI's mpirun, Slurm's srun, Hydra and MPICH, torchrun.

#include <string>

namespace imhotep::executor {

struct LocalRank {
  int rank = 0, ranks = 1;  // among the processes of this machine; ranks 0: the launcher is silent
  std::string variable;     // that said so; empty: this process was started alone
};
[[nodiscard]] LocalRank local_rank();

}  // namespace imhotep::executor
