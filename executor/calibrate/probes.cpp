// Which programs calibration walks.

#include <fmt/format.h>

#include "core/base/enum_names.h"
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
  model.router.drop = DropPolicy::None;  // else how many rows experts have depends on the weights
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

// The head of such a vocabulary is larger than a second-level cache: a step of two blocks reads its
// weights from memory, as one of many blocks does.
constexpr int kDeviceVocab = 50257;
constexpr std::int64_t kDeviceOutput = 8;
// Blocks of a decode step: so many that their weights together exceed that cache too, and that the
// head and the first reads are a small part of the step, as in a real model.
constexpr int kDecodeLayers = 8;

}  // namespace

std::string probe_name(const Plan& plan) {
  const Workload& w = plan.workload;
  const std::string model = fmt::format("{} wide, {} experts, vocabulary {}", plan.model.hidden,
                                        fmt::join(plan.model.experts.slots, "/"), plan.model.vocab);
  const std::string place = fmt::format("{} on {}", name_of(plan.dtype), name_of(plan.device));
  if (w.kind == WorkloadKind::Training) {
    const bool drops = plan.model.router.drop != DropPolicy::None;
    return fmt::format("train {}, {} x {}, {}{}", model, plan.micro_batch, w.sequence, place,
                       drops ? ", dropping" : "");
  }
  return fmt::format("generate {}, {} x ({} + {}), {}", model, w.global_batch, w.prompt, w.output,
                     place);
}

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
    std::int64_t sequences;
  };
  std::vector<Plan> probes;
  const auto train = [&](const Size& s, std::int64_t sequence = 1024) {
    probes.push_back(
        training_probe(probe_model(s.hidden, s.experts, kDeviceVocab), s.sequences, sequence));
  };
  const auto decode = [&](const Size& s, const std::vector<std::int64_t>& batches,
                          std::int64_t prompt) {
    ModelSpec model = probe_model(s.hidden, s.experts, kDeviceVocab);
    model.layers = kDecodeLayers;
    for (const std::int64_t batch : batches) {
      probes.push_back(generation_probe(model, batch, prompt, kDeviceOutput));
    }
  };
  const Size main[] = {{1024, 32, 8}, {768, 8, 16}, {2048, 64, 4}};
  for (const Size& s : main) {
    train(s);
    decode(s, {1, 8, 64}, 512);
  }
  if (!fast) {
    for (const Size& s : {Size{1024, 64, 16}, {768, 4, 8}, {1024, 8, 2}, {2048, 16, 8}}) train(s);
    // Gates that drop; what their experts cost is not taken from them (note_load).
    ModelSpec drops = probe_model(1024, 32, kDeviceVocab);
    drops.router.drop = DropPolicy::Random;
    probes.push_back(training_probe(drops, 8, 1024));
    for (const Size& s : main) decode(s, {2, 4, 16, 32, 128}, 512);
    for (const Size& s : main) decode(s, {1, 8, 64}, 128);
    for (const Size& s : main) decode(s, {1, 8, 64}, 1024);
    for (const Size& s : {Size{1536, 16, 8}, {2048, 32, 2}, {4096, 8, 2}, {768, 32, 4}}) train(s);
    train({2048, 8, 2}, 2048);
    train({1024, 16, 16}, 512);
    for (const Size& s : {Size{1024, 4, 0}, {1536, 16, 0}, {1024, 128, 0}, {2048, 128, 0}}) {
      decode(s, {1, 8, 64}, 512);
    }
    // Widths between and beyond the usual ones tell how efficiency goes from one to the next.
    for (const Size& s :
         {Size{512, 8, 16}, {640, 4, 32}, {1280, 4, 8}, {1792, 4, 4}, {2560, 4, 4}, {3072, 4, 4}}) {
      train(s);
      decode(s, {2, 16}, 256);
    }
  }
  for (Plan& plan : probes) {
    plan.device = DeviceKind::Cuda;
    plan.dtype = Dtype::Bf16;
    plan.prefill_chunk = usual_prefill_chunk(DeviceKind::Cuda);
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
  // A server reads prompts in steps of as many rows as its buckets have (schedule::usual_buckets).
  for (const std::int64_t rows : {16, 32, 128}) {
    if (rows < model.context) probes.push_back(generation_probe(small, 1, rows, 1));
  }
  return probes;
}

}  // namespace imhotep::executor
