#pragma once
// Continuous batching: which tokens of which requests pass the model in the next step. One
// deterministic state machine, used by the real server on its rank 0 and by the simulated one.
//
// A step takes one token of every sequence that decodes and fills the rest of the largest program
// with chunks of prompts, oldest first. Pages of the KV cache are taken as sequences grow. When
// none is left, the least important and youngest sequence loses its pages and is computed again
// later: prompt and generated tokens, so its text stays what it was.
//
// Who is next: the highest priority, which grows while a request waits; then the client that has
// had the least service (a prompt token counts 1, a new token 2); then who came first. Nobody
// overtakes a request that does not fit yet, so large ones do not starve.
// Sources: Yu et al., "Orca" (OSDI 2022); Agrawal et al., "Sarathi-Serve" (OSDI 2024); Kwon et al.,
// "PagedAttention" (SOSP 2023), section 4.5; Sheng et al., "Fairness in Serving Large Language
// Models" (OSDI 2024), algorithm 2 (virtual token counter).

#include <map>
#include <optional>
#include <span>

#include "core/schedule/page_pool.h"

namespace imhotep::schedule {

class Scheduler {
 public:
  // Throws: Error(Failed) for limits under which nothing could run.
  explicit Scheduler(Limits limits);

  // Why a request can never run, or an empty text.
  [[nodiscard]] std::string problem(const Request& request) const;
  [[nodiscard]] bool is_full() const { return counts().waiting >= limits_.max_waiting; }
  // Throws: Error(Failed) when it has a problem(), the queue is full, or the id is in use.
  void submit(const Request& request);
  // Forgets a request, waiting or running; false: there is none. Not between next and complete.
  bool cancel(RequestId id);

  // The next step, or nothing to do. `now_us` never falls.
  [[nodiscard]] std::optional<Step> next(double now_us);
  // The step has run: its sampled requests have one token more, those in `stopped` have met their
  // end. Returns the requests that ended, stopped or at their full length.
  std::vector<RequestId> complete(std::span<const RequestId> stopped);

  [[nodiscard]] Counts counts() const;
  [[nodiscard]] const Limits& limits() const { return limits_; }
  // Tokens of a request that are known: prompt and generated. Throws: std::out_of_range.
  [[nodiscard]] std::int64_t known_tokens(RequestId id) const { return all_.at(id).known; }

 private:
  struct Sequence {
    Request request;
    std::int64_t known = 0;     // tokens: prompt and generated
    std::int64_t computed = 0;  // of them in the cache
    std::int64_t generated = 0;
    std::int64_t charged = 0;     // prompt tokens its client has paid for
    std::int64_t importance = 0;  // priority when it was admitted
    int rank = -1, slot = -1;     // -1: waiting
  };
  struct Client {
    double service = 0;
    std::int64_t requests = 0;
  };

  [[nodiscard]] std::int64_t aged_priority(const Sequence& sequence, double now_us) const;
  [[nodiscard]] bool waits_before(const Sequence& a, const Sequence& b, double now_us) const;
  static bool runs_before(const Sequence& a, const Sequence& b);
  [[nodiscard]] Sequence* first_waiting(double now_us);
  [[nodiscard]] int place_for(const Sequence& sequence) const;
  bool make_place(const Sequence& sequence, Step& step);
  void admit(Sequence& sequence, int rank, double now_us, Step& step);
  void preempt(Sequence& sequence, Step& step);
  void grow_running(Step& step);
  void admit_waiting(double now_us, Step& step);
  void fill(int rank, Step& step);
  void charge(Sequence& sequence, const Piece& piece);
  void choose_bucket(Step& step) const;
  void leave(Sequence& sequence);
  void forget(RequestId id);

  Limits limits_;
  std::map<RequestId, Sequence> all_;
  std::vector<std::vector<Sequence*>> running_;  // by data rank, the most important first
  std::vector<Sequence*> waiting_;
  std::vector<PagePool> pools_;
  std::map<std::uint64_t, Client> clients_;
  std::vector<RequestId> sampled_;  // of the step under way
  std::int64_t preemptions_ = 0, admissions_ = 0, steps_ = 0;
};

}  // namespace imhotep::schedule
