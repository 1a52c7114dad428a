#include "core/schedule/page_pool.h"

#include <doctest/doctest.h>

#include <random>
#include <set>

namespace imhotep::schedule {

TEST_CASE("a slot holds as many pages as its tokens need, the lowest first") {
  PagePool pool(2, 6, 4);
  CHECK(pool.take_slot() == 0);
  CHECK(pool.take_slot() == 1);
  CHECK(pool.free_slots() == 0);
  std::vector<PageChange> changes;
  CHECK(pool.grow(1, 5, changes));
  REQUIRE(changes.size() == 2);
  CHECK(changes[1].slot == 1);
  CHECK(changes[1].index == 1);
  CHECK(changes[1].page == 1);
  CHECK(pool.grow(1, 3, changes));  // never shrinks
  CHECK(pool.held(1) == 2);
  CHECK(pool.grow(0, 16, changes));
  CHECK(pool.free_pages() == 0);
}

TEST_CASE("what does not fit changes nothing, and what is released can be taken again") {
  PagePool pool(2, 3, 2);
  std::vector<PageChange> changes;
  const int slot = pool.take_slot();
  CHECK(pool.grow(slot, 2, changes));
  CHECK_FALSE(pool.grow(slot, 8, changes));
  CHECK(changes.size() == 1);
  CHECK(pool.held(slot) == 1);
  pool.release(slot);
  CHECK(pool.free_pages() == 3);
  CHECK(pool.free_slots() == 2);
  CHECK(pool.grow(pool.take_slot(), 6, changes));
}

TEST_CASE("no page ever belongs to two slots") {
  constexpr std::uint64_t kSeed = 11;
  CAPTURE(kSeed);
  std::mt19937_64 draw(kSeed);
  constexpr int kSlots = 5, kPages = 13;
  PagePool pool(kSlots, kPages, 3);
  std::vector<std::set<int>> held(kSlots);
  std::vector<bool> taken(kSlots, false);
  for (int step = 0; step < 3000; ++step) {
    const int slot = static_cast<int>(draw() % kSlots);
    if (!taken[slot]) {
      const int got = pool.take_slot();
      REQUIRE_FALSE(taken[got]);
      taken[got] = true;
    } else if (draw() % 4 == 0) {
      pool.release(slot);
      held[slot].clear();
      taken[slot] = false;
    } else {
      std::vector<PageChange> changes;
      static_cast<void>(pool.grow(slot, static_cast<std::int64_t>(draw() % 30), changes));
      for (const PageChange& change : changes) held[change.slot].insert(change.page);
    }
    std::set<int> all;
    std::size_t count = 0;
    for (const auto& pages : held) {
      all.insert(pages.begin(), pages.end());
      count += pages.size();
    }
    REQUIRE(all.size() == count);
    REQUIRE(pool.free_pages() + static_cast<std::int64_t>(count) == kPages);
  }
}

}  // namespace imhotep::schedule
