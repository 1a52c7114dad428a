#pragma once
// Every subcommand of imhotep, in the order of the overview.

#include <vector>

#include "cli/command.h"

namespace imhotep::cli {

Run setup_run(Arguments& arguments);
Run setup_models(Arguments& arguments);
Run setup_clusters(Arguments& arguments);
Run setup_profiles(Arguments& arguments);
Run setup_plan(Arguments& arguments);
Run setup_simulate(Arguments& arguments);
Run setup_explain(Arguments& arguments);
Run setup_export(Arguments& arguments);
Run setup_calibrate(Arguments& arguments);
Run setup_train(Arguments& arguments);
Run setup_evaluate(Arguments& arguments);
Run setup_generate(Arguments& arguments);
Run setup_serve(Arguments& arguments);
Run setup_compare(Arguments& arguments);
Run setup_validate(Arguments& arguments);
Run setup_bench(Arguments& arguments);
Run setup_bench_serve(Arguments& arguments);

inline const std::vector<Command>& commands() {
  static const std::vector<Command> kCommands = {
      {"run", "calibrate, plan, train, generate and compare on this machine", setup_run},
      {"models", "list the models of the catalogue", setup_models},
      {"clusters", "list the clusters of the catalogue, and this machine", setup_clusters},
      {"profiles", "list the measured profiles", setup_profiles},
      {"plan", "find the best parallel degrees for a model on a cluster", setup_plan},
      {"simulate", "predict time and memory of a plan", setup_simulate},
      {"explain", "say why a plan is as fast as it is, and why not another", setup_explain},
      {"export", "write a folder that runs a plan: mpirun, Slurm, Kubernetes, Docker",
       setup_export},
      {"calibrate", "measure this machine's kernels and collectives", setup_calibrate},
      {"train", "run a training plan on text", setup_train},
      {"evaluate", "loss and log-probabilities of a text", setup_evaluate},
      {"generate", "text from a trained model", setup_generate},
      {"serve", "answer OpenAI clients on the ranks of a plan", setup_serve},
      {"compare", "predicted against measured, by operation", setup_compare},
      {"validate", "how wrong a profile is on what it did not measure", setup_validate},
      {"bench", "how near to the machine's ceilings a model runs", setup_bench},
      {"bench serve", "load a server, beside what the simulator expects", setup_bench_serve},
  };
  return kCommands;
}

}  // namespace imhotep::cli
