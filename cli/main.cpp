// imhotep: describe, calibrate, plan, run and compare PR-MoE transformers.

#include "cli/application.h"
#include "cli/blas_environment.h"

int main(int argc, char** argv) {
  imhotep::cli::choose_blas_kernels(argv);
  return imhotep::cli::run(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
