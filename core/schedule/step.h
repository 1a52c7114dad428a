#pragma once
// What the scheduler is asked and what it answers, as plain data. Rank 0 decides and sends each
// step to all ranks, because the ranks of an expert group move in lockstep: every data rank runs
// the same program (bucket), filled or not.

#include <cstdint>
#include <string>
#include <vector>

namespace imhotep::schedule {

using RequestId = std::uint64_t;

struct Request {
  RequestId id = 0;         // unique among requests that have not ended
  std::int64_t prompt = 1;  // tokens
  std::int64_t output = 1;  // new tokens at most
  int priority = 0;         // higher first
  std::uint64_t client = 0;
  double arrival_us = 0;
};

// A program that exists: rows a data rank can fill, and how many of them may be sampled.
struct Bucket {
  std::int64_t rows = 1, samples = 1;
  bool operator==(const Bucket&) const = default;
};

struct Limits {
  int data = 1;                  // data ranks
  std::int64_t sequences = 1;    // at once, a data rank
  std::int64_t pages = 1;        // of the KV cache, a data rank
  std::int64_t page_size = 16;   // tokens
  std::int64_t max_context = 1;  // tokens of one sequence in the cache
  std::vector<Bucket> buckets;   // by rows, then samples; the last one has the most of both
  std::int64_t max_waiting = 1024;
  // A waiting request gains one priority each time this has passed, so that none waits for ever.
  double aging_us = 10e6;
};

// Powers of two up to `sequences`, each row sampled; then up to `chunk` rows, with one sample or
// with one a sequence. Requires: sequences >= 1, chunk >= 1.
[[nodiscard]] std::vector<Bucket> usual_buckets(std::int64_t sequences, std::int64_t chunk);

// Tokens [first, first + count) of a request pass the model; where `samples`, the last one asks
// for the next token.
struct Piece {
  RequestId request = 0;
  int slot = 0;  // row of the block table
  std::int64_t first = 0, count = 1;
  bool samples = false;
};

// Entry `index` of a slot's row of the block table is now `page`.
struct PageChange {
  int slot = 0, index = 0, page = 0;
};

struct RankBatch {
  std::vector<Piece> pieces;
  std::vector<PageChange> pages;
  std::int64_t rows = 0, samples = 0;
};

struct Step {
  int bucket = 0;
  std::vector<RankBatch> ranks;      // by data rank
  std::vector<RequestId> admitted;   // took a slot in this step
  std::vector<RequestId> preempted;  // lost their pages: they are computed again later
  [[nodiscard]] std::int64_t rows() const;
  [[nodiscard]] std::int64_t samples() const;
};

struct Counts {
  std::int64_t waiting = 0, running = 0;
  std::int64_t pages_used = 0, pages = 0;  // all data ranks
  std::int64_t preemptions = 0, admissions = 0, steps = 0;
};

}  // namespace imhotep::schedule
