// Steps and evaluations whose rows exceed a bound of the plan: how all ranks learn of it, and the
// programs of smaller micro-batches (docs/decisions/0170). The idea: rows of an exchange fall with
// the micro-batch, and sums over a step do not depend on how it is divided.

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "core/base/fail.h"
#include "core/program/build.h"
#include "executor/train/trainer.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {
namespace {

// The largest part of n sequences that divides it: half, where n is even.
std::int64_t largest_part(std::int64_t n) {
  for (std::int64_t divisor = 2; divisor < n; ++divisor) {
    if (n % divisor == 0) return n / divisor;
  }
  return 1;
}

// A program of fewer sequences has the buffers of a larger one, none of them larger, and they live
// from the same operation to the same: they may lie where those lie. Placed by themselves, they
// could need more than the larger arena, because placement is greedy.
void lie_like(program::Program& program, const program::Program& larger) {
  const auto fits = [](const program::Buffer& a, const program::Buffer& b) {
    return a.kind == b.kind && a.layer == b.layer && std::strcmp(a.name, b.name) == 0 &&
           a.first_use == b.first_use && a.last_use == b.last_use && a.bytes() <= b.bytes();
  };
  if (!std::equal(program.buffers.begin(), program.buffers.end(), larger.buffers.begin(),
                  larger.buffers.end(), fits)) {
    return;
  }
  for (std::size_t b = 0; b < program.buffers.size(); ++b) {
    program.buffers[b].offset = larger.buffers[b].offset;
  }
  program.arena_bytes = larger.arena_bytes;
}

}  // namespace

void Trainer::note_overflow(const std::optional<Overflow>& found) {
  if (found && (!overflow_ || says_more(*found, *overflow_))) overflow_ = found;
}

// One infinite gradient of any rank reaches the norm of all, with which no rank updates: the sum
// over all ranks that every step has tells of an overflow, and no other is needed.
void Trainer::spoil_gradients() {
  int index = 0;
  for (const Region& region : weights().regions) {
    std::byte* gradients = runner_->region(program::BufferKind::Gradient, index++);
    if (region.norm_ranges.empty()) continue;
    std::array<std::byte, 8> bits{};
    const float narrow = std::numeric_limits<float>::infinity();
    const double wide = std::numeric_limits<double>::infinity();
    const std::int64_t size = bytes_of(region.dtype);
    if (region.dtype == Dtype::F64) {
      std::memcpy(bits.data(), &wide, sizeof wide);
    } else {  // the upper half of a float is bf16
      const auto* upper = reinterpret_cast<const std::byte*>(&narrow) + sizeof narrow - size;
      std::memcpy(bits.data(), upper, static_cast<std::size_t>(size));
    }
    std::byte* at = gradients + region.norm_ranges.front().begin * size;
    const kernels::Queue queue = runner_->queue(region.dtype);
    if (queue.device == kernels::Device::Cpu) {
      std::memcpy(at, bits.data(), static_cast<std::size_t>(size));
    } else {
      kernels::cuda_api().copy_in(at, bits.data(), size, queue.stream);
      runner_->wait();
    }
    return;
  }
  fail("rank {} holds no gradient that counts", rank_.value);
}

std::optional<Overflow> Trainer::agree_on_overflow() {
  const Overflow own = overflow_.value_or(Overflow{});
  overflow_.reset();
  std::vector<Overflow> all(world_ != nullptr ? static_cast<std::size_t>(world_->size()) : 1, own);
  if (world_ != nullptr) world_->all_gather(&own, all.data(), sizeof own);
  std::optional<Overflow> most;
  for (const Overflow& one : all) {
    if (one.rows > 0 && (!most || says_more(one, *most))) most = one;
  }
  return most;
}

int Trainer::add_like(program::Program program, int larger) {
  lie_like(program, runner_->program(larger));
  return runner_->add(std::move(program));
}

Trainer::Cut Trainer::make_part(const Cut& whole) {
  Cut part{.sequences = largest_part(whole.sequences)};
  part.parts = whole.parts * (whole.sequences / part.sequences);
  if (runner_->program(whole.first).phase == program::Phase::Evaluate) {
    part.first = part.next =
        add_like(program::build_evaluate(plan_, rank_, part.sequences), whole.first);
    return part;
  }
  Plan plan = plan_;
  plan.micro_batch = part.sequences;
  plan.accumulation = part.parts;
  const int next = whole.parts > 1 ? whole.next : whole.first;
  part.first = add_like(program::build_train_step(plan, rank_, {.first = true}), whole.first);
  part.next = add_like(program::build_train_step(plan, rank_, {.first = false}), next);
  return part;
}

void Trainer::divide(std::vector<Cut>& cuts, const Overflow& overflow, Replays& replays) {
  ++replays.count;
  if (overflow.rows > replays.worst.rows) replays.worst = overflow;
  if (cut_.sequences <= 1) {
    fail("{}, with one sequence at a time; the layer needs a bound of {} or more here",
         describe(overflow), overflow.rows);
  }
  const auto next = static_cast<std::size_t>(replays.count);
  if (next == cuts.size()) cuts.push_back(make_part(cut_));
  cut_ = cuts[next];
}

}  // namespace imhotep::executor
