#include "executor/comm/local_rank.h"

#include <array>
#include <cstdlib>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

struct Known {
  const char *rank, *ranks;
};
constexpr std::array kKnown = {Known{"OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
                               Known{"SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"},
                               Known{"MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
                               Known{"LOCAL_RANK", "LOCAL_WORLD_SIZE"}};

int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || value < 0 || value > 1 << 20) {
    fail_input("environment variable {}: expected a number, got \"{}\"", name, text);
  }
  return static_cast<int>(value);
}

}  // namespace

LocalRank local_rank() {
  for (const Known& known : kKnown) {
    const int rank = number(known.rank, -1);
    if (rank < 0) continue;
    return {.rank = rank, .ranks = number(known.ranks, 0), .variable = known.rank};
  }
  return {};
}

}  // namespace imhotep::executor
