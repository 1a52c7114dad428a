// imhotep: describe, calibrate, plan, run and compare PR-MoE transformers.

#include "cli/application.h"

int main(int argc, char** argv) {
  return imhotep::cli::run(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
