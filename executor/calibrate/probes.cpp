// Which programs calibration walks.

#include "executor/calibrate/calibrate.h"

namespace imhotep::executor {
namespace {

ModelSpec probe_model(int hidden, int experts, int vocab) {
  ModelSpec model;
  model.name = "probe";
  model.layers = 2;  // a dense block and a residual MoE block hold every kernel
  model.hidden = hidden;
  model.heads = hidden / 64 > 0 ? hidden / 64 : 1;
  model.vocab = vocab;
  model.context = 2048;
  model.experts.slots = {experts};
  model.residual = true;
  return model;
}

Plan training_probe(const ModelSpec& model, std::int64_t sequences, std::int64_t sequence) {
  Workload workload;
  workload.global_batch = sequences;
  workload.sequence = sequence;
  return single_rank_plan(model, workload);
}

Plan generation_probe(const ModelSpec& model, std::int64_t sequences, std::int64_t prompt,
                      std::int64_t output) {
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  workload.global_batch = sequences;
  workload.prompt = prompt;
  workload.output = output;
  return single_rank_plan(model, workload);
}

}  // namespace

std::vector<Plan> default_probes(bool fast) {
  struct Size {
    int hidden, experts, vocab;
    std::int64_t sequences, sequence;
  };
  std::vector<Size> sizes = {{128, 4, 2048, 2, 128},
                             {256, 8, 4096, 2, 256},
                             {256, 4, 4096, 8, 256},
                             {512, 8, 4096, 2, 256}};
  if (!fast) {
    sizes.insert(sizes.end(), {{64, 4, 1024, 4, 64},
                               {128, 8, 8192, 8, 256},
                               {384, 4, 8192, 4, 128},
                               {512, 4, 8192, 4, 512},
                               {768, 4, 8192, 2, 256},
                               {1024, 4, 8192, 1, 256}});
  }
  std::vector<Plan> probes;
  for (const Size& s : sizes) {
    const ModelSpec model = probe_model(s.hidden, s.experts, s.vocab);
    probes.push_back(training_probe(model, s.sequences, s.sequence));
    for (const std::int64_t sequences : {1, 4, 8}) {
      probes.push_back(generation_probe(model, sequences, 2 * sequences + 62, 8));
    }
  }
  return probes;
}

std::vector<Plan> device_probes(bool fast) {
  struct Size {
    int hidden, experts;
    std::int64_t sequences, sequence;
  };
  std::vector<Size> sizes = {{768, 4, 8, 1024}, {1024, 32, 8, 1024}, {2048, 16, 4, 1024}};
  if (!fast) {
    sizes.insert(sizes.end(), {{768, 8, 16, 1024},
                               {1024, 8, 2, 1024},
                               {1024, 64, 16, 1024},
                               {1536, 16, 8, 1024},
                               {2048, 32, 8, 1024},
                               {2048, 8, 2, 2048},
                               {4096, 8, 2, 1024}});
  }
  std::vector<Plan> probes;
  for (const Size& s : sizes) {
    const ModelSpec model = probe_model(s.hidden, s.experts, 50257);
    probes.push_back(training_probe(model, s.sequences, s.sequence));
    for (const std::int64_t sequences : {1, 8, 64}) {
      for (const std::int64_t prompt : {128, 1024}) {
        probes.push_back(generation_probe(model, sequences, prompt, 8));
      }
    }
  }
  for (Plan& plan : probes) {
    plan.device = DeviceKind::Cuda;
    plan.dtype = Dtype::Bf16;
  }
  return probes;
}

std::vector<Plan> model_probes(const ModelSpec& model, std::int64_t sequence,
                               std::int64_t most_sequences) {
  // Two blocks of each kind are enough: all others repeat their shapes.
  ModelSpec small = model;
  small.experts.slots.clear();
  for (int layer = 0; layer < model.layers; ++layer) {
    const int experts = model.experts_at(layer);
    auto& slots = small.experts.slots;
    if (experts > 0 && (slots.empty() || slots.back() != experts)) slots.push_back(experts);
  }
  if (!small.experts.slots.empty()) {
    small.layers = static_cast<int>(small.experts.slots.size()) * model.moe_interval;
  }
  std::vector<Plan> probes;
  for (std::int64_t sequences = 1; sequences <= most_sequences; sequences *= 2) {
    probes.push_back(training_probe(small, sequences, sequence));
  }
  const std::int64_t prompt = std::min<std::int64_t>(64, model.context / 2);
  for (const std::int64_t sequences : {1, 4}) {
    probes.push_back(
        generation_probe(small, sequences, prompt, std::min<std::int64_t>(16, prompt)));
  }
  return probes;
}

}  // namespace imhotep::executor
