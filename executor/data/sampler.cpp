#include "executor/data/sampler.h"

#include <algorithm>
#include <bit>

#include "core/base/fail.h"
#include "core/base/random.h"

namespace imhotep::executor {
namespace {

constexpr int kRounds = 4;

std::uint64_t feistel(std::uint64_t value, int half_bits, std::uint64_t key) {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = value >> half_bits, right = value & mask;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t next = left ^ (hash(key, static_cast<std::uint64_t>(round), right) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

std::int64_t permuted(std::int64_t index, std::int64_t count, std::uint64_t key) {
  const auto end = static_cast<std::uint64_t>(count);
  const int half_bits = std::max(1, (static_cast<int>(std::bit_width(end - 1)) + 1) / 2);
  auto value = static_cast<std::uint64_t>(index);
  do {
    value = feistel(value, half_bits, key);
  } while (value >= end);
  return static_cast<std::int64_t>(value);
}

Sampler::Sampler(const TokenFile& tokens, const SamplerOptions& options)
    : tokens_(tokens), options_(options) {
  if (options.sequence < 1) fail_input("sequence: expected at least 1, got {}", options.sequence);
  windows_ = (tokens.count() - 1) / options.sequence;
  if (windows_ < 1) {
    fail_input("{}: a sequence of {} needs {} tokens, the text has {}", tokens.file(),
               options.sequence, options.sequence + 1, tokens.count());
  }
}

std::int64_t Sampler::offset(std::int64_t sequence_number) const {
  const std::int64_t epoch = sequence_number / windows_, place = sequence_number % windows_;
  if (options_.order == WindowOrder::AsWritten) return place * options_.sequence;
  const std::uint64_t key = hash(options_.seed, static_cast<std::uint64_t>(epoch));
  return permuted(place, windows_, key) * options_.sequence;
}

void Sampler::fill(std::int64_t first, std::span<std::int32_t> inputs,
                   std::span<std::int32_t> targets) const {
  const auto sequence = static_cast<std::size_t>(options_.sequence);
  if (inputs.size() != targets.size() || inputs.size() % sequence != 0) {
    fail("fill: expected whole sequences of {}, got {} inputs and {} targets", sequence,
         inputs.size(), targets.size());
  }
  for (std::size_t row = 0; row * sequence < inputs.size(); ++row) {
    const std::int64_t begin = offset(first + static_cast<std::int64_t>(row));
    tokens_.read(begin, inputs.subspan(row * sequence, sequence));
    tokens_.read(begin + 1, targets.subspan(row * sequence, sequence));
  }
}

}  // namespace imhotep::executor
