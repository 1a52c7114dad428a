#include "executor/generate/page_table.h"

#include <doctest/doctest.h>

#include <random>
#include <set>

#include "core/base/error.h"

namespace imhotep::executor {
namespace {

using Table = std::vector<std::int32_t>;

// Pages of a row that are given out, then nothing but -1.
std::int64_t held(const Table& table, std::int64_t row, std::int64_t max_pages) {
  std::int64_t count = 0;
  while (count < max_pages && table[row * max_pages + count] >= 0) ++count;
  for (std::int64_t i = count; i < max_pages; ++i) CHECK(table[row * max_pages + i] == -1);
  return count;
}

}  // namespace

TEST_CASE("a sequence holds as many pages as its tokens need") {
  Table table(2 * 3, 7);
  PageTable pages(table, 2, 4);
  CHECK(table == Table(6, -1));
  CHECK(pages.free_pages() == 6);
  const std::pair<int, int> steps[] = {{0, 0}, {1, 1}, {4, 1}, {5, 2}, {5, 2}, {12, 3}};
  for (const auto& [tokens, expected] : steps) {
    pages.grow(1, tokens);
    CHECK(held(table, 1, 3) == expected);
    CHECK(pages.free_pages() == 6 - expected);
  }
  pages.grow(1, 3);  // never shrinks
  CHECK(held(table, 1, 3) == 3);
  CHECK(held(table, 0, 3) == 0);
}

TEST_CASE("growing keeps the pages that are held, releasing gives all of them back") {
  Table table(8, 0);
  PageTable pages(table, 2, 2);
  pages.grow(0, 3);
  const Table first(table.begin(), table.begin() + 2);
  pages.grow(1, 2);
  pages.grow(0, 7);
  CHECK(Table(table.begin(), table.begin() + 2) == first);
  pages.release(0);
  pages.release(0);
  CHECK(held(table, 0, 4) == 0);
  CHECK(pages.free_pages() == 7);
  pages.release(1);
  CHECK(table == Table(8, -1));
  CHECK(pages.free_pages() == 8);
}

TEST_CASE("a full cache and a sequence that is too long are refused, and nothing is lost") {
  Table table(4, 0);
  PageTable pages(table, 2, 2);
  pages.grow(0, 4);
  CHECK_THROWS_AS(pages.grow(0, 5), Error);  // a sequence may have two pages
  CHECK(pages.free_pages() == 2);
  pages.grow(1, 4);
  CHECK(pages.free_pages() == 0);
  CHECK_THROWS_AS(pages.grow(1, 5), Error);
  pages.release(0);
  pages.grow(0, 1);
  CHECK(pages.free_pages() == 1);
}

TEST_CASE("no page ever belongs to two sequences") {
  constexpr std::uint64_t kSeed = 8;
  constexpr std::int64_t kSequences = 5, kPages = 4, kPageSize = 3;
  std::mt19937_64 draw(kSeed);
  Table table(kSequences * kPages, 0);
  PageTable pages(table, kSequences, kPageSize);
  for (int step = 0; step < 2000; ++step) {
    const auto sequence = static_cast<std::int64_t>(draw() % kSequences);
    if (draw() % 4 == 0) {
      pages.release(sequence);
    } else {
      pages.grow(sequence, static_cast<std::int64_t>(draw() % (kPages * kPageSize + 1)));
    }
    std::set<std::int32_t> seen;
    std::int64_t total = 0;
    for (std::int64_t s = 0; s < kSequences; ++s) {
      for (std::int64_t i = 0; i < held(table, s, kPages); ++i) {
        seen.insert(table[s * kPages + i]);
        ++total;
      }
    }
    CAPTURE(kSeed);
    CAPTURE(step);
    REQUIRE(static_cast<std::int64_t>(seen.size()) == total);
    REQUIRE(total + pages.free_pages() == kSequences * kPages);
    REQUIRE((seen.empty() || (*seen.begin() >= 0 && *seen.rbegin() < kSequences * kPages)));
  }
}

}  // namespace imhotep::executor
