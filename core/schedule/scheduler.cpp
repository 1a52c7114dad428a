#include "core/schedule/scheduler.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/base/fail.h"

namespace imhotep::schedule {
namespace {

constexpr double kPromptService = 1, kOutputService = 2;

}  // namespace

std::vector<Bucket> usual_buckets(std::int64_t sequences, std::int64_t chunk) {
  std::vector<Bucket> buckets;
  for (std::int64_t rows = 1; rows < sequences; rows *= 2) buckets.push_back({rows, rows});
  buckets.push_back({sequences, sequences});
  if (chunk <= sequences) return buckets;
  std::int64_t rows = 1;
  while (rows <= sequences) rows *= 2;
  for (; rows < 2 * chunk; rows *= 2) {
    const std::int64_t size = std::min(rows, chunk);
    if (sequences > 1) buckets.push_back({size, 1});
    buckets.push_back({size, sequences});
  }
  return buckets;
}

std::int64_t Step::rows() const {
  std::int64_t sum = 0;
  for (const RankBatch& batch : ranks) sum += batch.rows;
  return sum;
}

std::int64_t Step::samples() const {
  std::int64_t sum = 0;
  for (const RankBatch& batch : ranks) sum += batch.samples;
  return sum;
}

Scheduler::Scheduler(Limits limits) : limits_(std::move(limits)), running_(limits_.data) {
  const Limits& l = limits_;
  if (l.data < 1 || l.sequences < 1 || l.pages < 1 || l.page_size < 1 || l.max_context < 1) {
    fail(
        "scheduler: expected positive limits, got data {}, sequences {}, pages {} of {}, context "
        "{}",
        l.data, l.sequences, l.pages, l.page_size, l.max_context);
  }
  if (l.buckets.empty() || l.buckets.back().rows < l.sequences ||
      l.buckets.back().samples < l.sequences) {
    fail("scheduler: the largest bucket must hold a row and a sample of {} sequences", l.sequences);
  }
  pools_.assign(l.data, PagePool(l.sequences, l.pages, l.page_size));
}

std::string Scheduler::problem(const Request& request) const {
  if (request.prompt < 1) return "the prompt has no token";
  if (request.output < 1) return fmt::format("{} new tokens were asked for", request.output);
  // The last token is not read again, so it needs no place in the cache.
  const std::int64_t room = std::min(limits_.max_context, limits_.pages * limits_.page_size);
  if (request.prompt > room || request.output > room + 1 - request.prompt) {
    return fmt::format("{} prompt tokens and {} new ones exceed the {} that a sequence may have",
                       request.prompt, request.output, room);
  }
  return {};
}

void Scheduler::submit(const Request& request) {
  if (const std::string why = problem(request); !why.empty()) {
    fail("request {}: {}", request.id, why);
  }
  if (is_full()) fail("request {}: {} requests are waiting", request.id, limits_.max_waiting);
  const auto [entry, is_new] = all_.try_emplace(request.id);
  if (!is_new) fail("request {}: the id is in use", request.id);
  entry->second.request = request;
  entry->second.known = request.prompt;
  waiting_.push_back(&entry->second);
  // Who was away does not come back with credit for that time.
  double least = INFINITY;
  for (const auto& [id, client] : clients_) {
    if (client.requests > 0 && id != request.client) least = std::min(least, client.service);
  }
  Client& own = clients_[request.client];
  if (own.requests++ == 0 && std::isfinite(least)) own.service = std::max(own.service, least);
}

bool Scheduler::cancel(RequestId id) {
  const auto entry = all_.find(id);
  if (entry == all_.end()) return false;
  leave(entry->second);
  forget(id);
  return true;
}

std::int64_t Scheduler::aged_priority(const Sequence& sequence, double now_us) const {
  const double waited = std::max(0.0, now_us - sequence.request.arrival_us);
  return sequence.request.priority + static_cast<std::int64_t>(waited / limits_.aging_us);
}

bool Scheduler::waits_before(const Sequence& a, const Sequence& b, double now_us) const {
  const auto key = [&](const Sequence& s) {
    return std::make_tuple(-aged_priority(s, now_us), clients_.at(s.request.client).service,
                           s.request.arrival_us, s.request.id);
  };
  return key(a) < key(b);
}

bool Scheduler::runs_before(const Sequence& a, const Sequence& b) {
  const auto key = [](const Sequence& s) {
    return std::make_tuple(-s.importance, s.request.arrival_us, s.request.id);
  };
  return key(a) < key(b);
}

Scheduler::Sequence* Scheduler::first_waiting(double now_us) {
  const auto first = std::min_element(
      waiting_.begin(), waiting_.end(),
      [&](const Sequence* a, const Sequence* b) { return waits_before(*a, *b, now_us); });
  return first == waiting_.end() ? nullptr : *first;
}

// The data rank with a free slot and the pages for all known tokens, and one page left for each
// sequence that runs there, so that an admission does not at once cost somebody else's place.
int Scheduler::place_for(const Sequence& sequence) const {
  int best = -1;
  const auto load = [&](int rank) {
    return std::make_pair(running_[rank].size(), -pools_[rank].free_pages());
  };
  for (int rank = 0; rank < limits_.data; ++rank) {
    const PagePool& pool = pools_[rank];
    const auto spare = static_cast<std::int64_t>(running_[rank].size());
    if (pool.free_slots() == 0 || pool.pages_for(sequence.known) + spare > pool.free_pages()) {
      continue;
    }
    if (best < 0 || load(rank) < load(best)) best = rank;
  }
  return best;
}

// Takes the place of somebody whose priority was lower when it was admitted.
bool Scheduler::make_place(const Sequence& sequence, Step& step) {
  Sequence* victim = nullptr;
  for (const auto& running : running_) {
    if (running.empty() || running.back()->importance >= sequence.request.priority) continue;
    if (victim == nullptr || runs_before(*victim, *running.back())) victim = running.back();
  }
  if (victim == nullptr) return false;
  preempt(*victim, step);
  return true;
}

void Scheduler::admit(Sequence& sequence, int rank, double now_us, Step& step) {
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &sequence));
  sequence.importance = aged_priority(sequence, now_us);
  sequence.rank = rank;
  sequence.slot = pools_[rank].take_slot();
  sequence.computed = 0;
  if (!pools_[rank].grow(sequence.slot, sequence.known, step.ranks[rank].pages)) {
    fail("request {}: no pages at data rank {}", sequence.request.id, rank);
  }
  auto& running = running_[rank];
  running.insert(
      std::upper_bound(running.begin(), running.end(), &sequence,
                       [](const Sequence* a, const Sequence* b) { return runs_before(*a, *b); }),
      &sequence);
  step.admitted.push_back(sequence.request.id);
  ++admissions_;
}

void Scheduler::preempt(Sequence& sequence, Step& step) {
  // Pages that it got for this step go back with the rest.
  std::erase_if(step.ranks[sequence.rank].pages,
                [&](const PageChange& change) { return change.slot == sequence.slot; });
  leave(sequence);
  waiting_.push_back(&sequence);
  step.preempted.push_back(sequence.request.id);
  ++preemptions_;
}

void Scheduler::grow_running(Step& step) {
  for (int rank = 0; rank < limits_.data; ++rank) {
    auto& running = running_[rank];
    for (std::size_t i = 0; i < running.size(); ++i) {
      Sequence& sequence = *running[i];
      while (!pools_[rank].grow(sequence.slot, sequence.known, step.ranks[rank].pages)) {
        Sequence& last = *running.back();
        const bool itself = &last == &sequence;
        preempt(last, step);
        if (itself) break;
      }
    }
  }
}

void Scheduler::admit_waiting(double now_us, Step& step) {
  while (Sequence* first = first_waiting(now_us)) {
    // Somebody who lost a place in this step does not take it back in the same.
    if (std::find(step.preempted.begin(), step.preempted.end(), first->request.id) !=
        step.preempted.end()) {
      return;
    }
    const int rank = place_for(*first);
    if (rank >= 0) {
      admit(*first, rank, now_us, step);
    } else if (!make_place(*first, step)) {
      return;
    }
  }
}

void Scheduler::charge(Sequence& sequence, const Piece& piece) {
  const std::int64_t end = std::min(piece.first + piece.count, sequence.request.prompt);
  const std::int64_t read =
      std::max<std::int64_t>(0, end - std::max(piece.first, sequence.charged));
  sequence.charged = std::max(sequence.charged, end);
  clients_[sequence.request.client].service +=
      kPromptService * static_cast<double>(read) + (piece.samples ? kOutputService : 0);
}

// Decoding sequences first, then prompts: as many rows as the largest bucket has.
void Scheduler::fill(int rank, Step& step) {
  RankBatch& batch = step.ranks[rank];
  std::int64_t left = limits_.buckets.back().rows;
  for (const bool decoding : {true, false}) {
    for (Sequence* sequence : running_[rank]) {
      const std::int64_t wanted = sequence->known - sequence->computed;
      if (wanted == 0 || (wanted == 1) != decoding || left == 0) continue;
      const std::int64_t count = std::min(wanted, left);
      const Piece piece{.request = sequence->request.id,
                        .slot = sequence->slot,
                        .first = sequence->computed,
                        .count = count,
                        .samples = count == wanted};
      charge(*sequence, piece);
      sequence->computed += count;
      left -= count;
      batch.rows += count;
      batch.samples += piece.samples ? 1 : 0;
      if (piece.samples) sampled_.push_back(piece.request);
      batch.pieces.push_back(piece);
    }
  }
}

void Scheduler::choose_bucket(Step& step) const {
  std::int64_t rows = 0, samples = 0;
  for (const RankBatch& batch : step.ranks) {
    rows = std::max(rows, batch.rows);
    samples = std::max(samples, batch.samples);
  }
  const auto& buckets = limits_.buckets;
  const auto fits = [&](const Bucket& b) { return b.rows >= rows && b.samples >= samples; };
  step.bucket =
      static_cast<int>(std::find_if(buckets.begin(), buckets.end(), fits) - buckets.begin());
}

std::optional<Step> Scheduler::next(double now_us) {
  if (!sampled_.empty()) fail("scheduler: the last step is not complete");
  Step step;
  step.ranks.resize(limits_.data);
  grow_running(step);
  admit_waiting(now_us, step);
  for (int rank = 0; rank < limits_.data; ++rank) fill(rank, step);
  if (step.rows() == 0) return std::nullopt;
  choose_bucket(step);
  ++steps_;
  return step;
}

std::vector<RequestId> Scheduler::complete(std::span<const RequestId> stopped) {
  std::vector<RequestId> ended;
  for (const RequestId id : sampled_) {
    Sequence& sequence = all_.at(id);
    ++sequence.known;
    ++sequence.generated;
    const bool stops = std::find(stopped.begin(), stopped.end(), id) != stopped.end();
    if (!stops && sequence.generated < sequence.request.output) continue;
    ended.push_back(id);
    leave(sequence);
    forget(id);
  }
  sampled_.clear();
  return ended;
}

// Gives up slot and pages, or the place in the queue.
void Scheduler::leave(Sequence& sequence) {
  auto& list = sequence.rank < 0 ? waiting_ : running_[sequence.rank];
  list.erase(std::find(list.begin(), list.end(), &sequence));
  if (sequence.rank >= 0) pools_[sequence.rank].release(sequence.slot);
  sequence.rank = sequence.slot = -1;
  sequence.computed = 0;
}

void Scheduler::forget(RequestId id) {
  --clients_.at(all_.at(id).request.client).requests;
  all_.erase(id);
  if (all_.empty()) clients_.clear();
}

Counts Scheduler::counts() const {
  Counts counts{.waiting = static_cast<std::int64_t>(waiting_.size()),
                .running = static_cast<std::int64_t>(all_.size() - waiting_.size()),
                .pages = limits_.pages * limits_.data,
                .preemptions = preemptions_,
                .admissions = admissions_,
                .steps = steps_};
  for (const PagePool& pool : pools_) counts.pages_used += limits_.pages - pool.free_pages();
  return counts;
}

}  // namespace imhotep::schedule
