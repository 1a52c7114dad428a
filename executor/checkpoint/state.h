#pragma once
// Where a training run stands: everything besides the tensors that it needs to go on.

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/fields.h"

namespace imhotep::executor {

struct TrainingState {
  std::int64_t step = 0;           // optimizer steps done
  std::uint64_t seed = 0;          // of the order of the data, dropping and initial weights
  std::int64_t tokens_seen = 0;    // trained on
  std::int64_t next_sequence = 0;  // first sequence that is not trained on (Sampler)
  std::int64_t planned_steps = 0;  // length of the run: the learning rate decays over it
  double learning_rate = 0;        // of the last step
  std::optional<double> loss;      // of the last step; absent when it was not finite
  std::string tokenizer_hash;      // Tokenizer::hash_text(); empty: no tokenizer
  std::string program_version;
  // Of the elements of the files (element.h), in hexadecimal; empty: not checked. Set by saving.
  std::string model_checksum, optimizer_checksum, master_checksum;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("step", s.step, {.help = "optimizer steps done", .minimum = 0});
    visit("seed", s.seed, {.help = "of data order, dropping and initial weights", .minimum = 0});
    visit("tokens_seen", s.tokens_seen, {.help = "trained on", .minimum = 0});
    visit("next_sequence", s.next_sequence, {.help = "first one not yet trained on", .minimum = 0});
    visit("planned_steps", s.planned_steps, {.help = "length of the run", .minimum = 0});
    visit("learning_rate", s.learning_rate, {.help = "of the last step", .minimum = 0});
    visit("loss", s.loss, {.help = "of the last step", .optional = true});
    visit("tokenizer_hash", s.tokenizer_hash, {.help = "of tokenizer.model", .optional = true});
    visit("program_version", s.program_version, {.help = "that wrote it", .optional = true});
    visit("model_checksum", s.model_checksum, {.help = "of the weights", .optional = true});
    visit("optimizer_checksum", s.optimizer_checksum, {.help = "of the moments", .optional = true});
    visit("master_checksum", s.master_checksum,
          {.help = "of the fp32 copies of bf16 weights", .optional = true});
  }
};

inline constexpr const char* kStateSchema = "imhotep.state/1";

[[nodiscard]] TrainingState read_state(const std::string& file);        // Throws: Error(Input)
void write_state(const TrainingState& state, const std::string& file);  // Throws: Error(Failed)

}  // namespace imhotep::executor
