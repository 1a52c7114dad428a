#pragma once
// A model that can only be right if every page is: it stores each token in the page that the block
// table names, and its next token is a hash of what it reads back. Checks every rule of a step.

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "core/base/random.h"
#include "core/schedule/scheduler.h"

namespace imhotep::test {

class PagedModel {
 public:
  explicit PagedModel(const schedule::Limits& limits) : limits_(limits), ranks_(limits.data) {
    for (Rank& rank : ranks_) {
      rank.cache.assign(limits.pages * limits.page_size, -1);
      rank.table.assign(limits.sequences, {});
    }
  }

  [[nodiscard]] static std::int64_t prompt_token(schedule::RequestId id, std::int64_t position) {
    return static_cast<std::int64_t>(hash(3, id, position) % 1000);
  }

  void begin(const schedule::Request& request) {
    std::vector<std::int64_t>& text = texts[request.id];
    for (std::int64_t i = 0; i < request.prompt; ++i) text.push_back(prompt_token(request.id, i));
  }

  void run(const schedule::Step& step) {
    const schedule::Bucket& bucket = limits_.buckets.at(step.bucket);
    REQUIRE(step.ranks.size() == ranks_.size());
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      const schedule::RankBatch& batch = step.ranks[r];
      CHECK(batch.rows <= bucket.rows);
      CHECK(batch.samples <= bucket.samples);
      std::set<int> slots;
      std::int64_t rows = 0, samples = 0;
      for (const schedule::PageChange& change : batch.pages) {
        REQUIRE((change.page >= 0 && change.page < limits_.pages));
        ranks_[r].table[change.slot][change.index] = change.page;
      }
      for (const schedule::Piece& piece : batch.pieces) {
        CHECK(slots.insert(piece.slot).second);
        rows += piece.count;
        samples += piece.samples ? 1 : 0;
        write(ranks_[r], piece);
      }
      CHECK(rows == batch.rows);
      CHECK(samples == batch.samples);
      for (const schedule::Piece& piece : batch.pieces) {
        if (piece.samples) texts.at(piece.request).push_back(read(ranks_[r], piece));
      }
    }
  }

  std::map<schedule::RequestId, std::vector<std::int64_t>> texts;  // prompt and answer

 private:
  struct Rank {
    std::vector<std::int64_t> cache;
    std::vector<std::map<int, int>> table;  // slot, index -> page
  };
  std::int64_t& cell(Rank& rank, int slot, std::int64_t position) {
    const int page = rank.table[slot].at(static_cast<int>(position / limits_.page_size));
    return rank.cache[page * limits_.page_size + position % limits_.page_size];
  }
  void write(Rank& rank, const schedule::Piece& piece) {
    const auto& text = texts.at(piece.request);
    REQUIRE(piece.count >= 1);
    REQUIRE(piece.first + piece.count <= static_cast<std::int64_t>(text.size()));
    CHECK(piece.samples == (piece.first + piece.count == static_cast<std::int64_t>(text.size())));
    for (std::int64_t i = piece.first; i < piece.first + piece.count; ++i) {
      cell(rank, piece.slot, i) = text[i];
    }
  }
  std::int64_t read(Rank& rank, const schedule::Piece& piece) {
    std::uint64_t state = 7;
    for (std::int64_t i = 0; i < piece.first + piece.count; ++i) {
      state = hash(state, static_cast<std::uint64_t>(cell(rank, piece.slot, i)));
    }
    return static_cast<std::int64_t>(state % 1000);
  }

  schedule::Limits limits_;
  std::vector<Rank> ranks_;
};

}  // namespace imhotep::test
