#pragma once
// Which tokens the n-th sequence of a training run reads. A pure function of seed and position, so
// the order is the same for every degree and a run resumes from one number.
//
// The stream is cut into windows of `sequence` inputs; the targets are the same tokens one later,
// so every token but the first is a target once an epoch. Each epoch goes through the windows in
// an order of its own: a Feistel network of four rounds on the smallest even number of bits that
// counts the windows, walked until it lands on a window.
// Source: J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains" (2002), cycle walking.

#include <cstdint>
#include <span>

#include "executor/data/token_file.h"

namespace imhotep::executor {

enum class WindowOrder : std::uint8_t { Shuffled, AsWritten };

struct SamplerOptions {
  std::int64_t sequence = 0;
  std::uint64_t seed = 0;
  WindowOrder order = WindowOrder::Shuffled;
};

// The place of `index` under a permutation of [0, count) chosen by `key`.
[[nodiscard]] std::int64_t permuted(std::int64_t index, std::int64_t count, std::uint64_t key);

class Sampler {
 public:
  // `tokens` must outlive the sampler.
  // Throws: Error(Input) when the stream is shorter than one window.
  Sampler(const TokenFile& tokens, const SamplerOptions& options);

  [[nodiscard]] std::int64_t windows() const { return windows_; }
  // Sequences are counted through the whole run: step * global_batch + index while the batch is
  // constant. Returns the offset of the first input token.
  [[nodiscard]] std::int64_t offset(std::int64_t sequence_number) const;
  [[nodiscard]] std::int64_t offset(std::int64_t step, std::int64_t global_batch,
                                    std::int64_t index) const {
    return offset(step * global_batch + index);
  }
  // Sequences [first, first + n) one after the other, where n = inputs.size() / sequence.
  // Shapes: inputs and targets [n, sequence].
  void fill(std::int64_t first, std::span<std::int32_t> inputs,
            std::span<std::int32_t> targets) const;

 private:
  const TokenFile& tokens_;
  SamplerOptions options_;
  std::int64_t windows_ = 0;
};

}  // namespace imhotep::executor
