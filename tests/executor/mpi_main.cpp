#include "tests/executor/rank_program.h"

int main(int argc, char** argv) {
  const imhotep::executor::Bootstrap ranks;
  return run_cases(ranks, argc, argv);
}
