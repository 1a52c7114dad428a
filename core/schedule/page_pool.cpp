#include "core/schedule/page_pool.h"

#include "core/base/fail.h"

namespace imhotep::schedule {

PagePool::PagePool(std::int64_t slots, std::int64_t pages, std::int64_t page_size)
    : page_size_(page_size), held_(static_cast<std::size_t>(slots)) {
  for (int page = 0; page < pages; ++page) free_pages_.insert(free_pages_.end(), page);
  for (int slot = 0; slot < slots; ++slot) free_slots_.insert(free_slots_.end(), slot);
}

int PagePool::take_slot() {
  if (free_slots_.empty()) fail("all {} slots are taken", held_.size());
  const int slot = *free_slots_.begin();
  free_slots_.erase(free_slots_.begin());
  return slot;
}

bool PagePool::grow(int slot, std::int64_t tokens, std::vector<PageChange>& changes) {
  std::vector<int>& pages = held_[slot];
  const std::int64_t wanted = pages_for(tokens) - static_cast<std::int64_t>(pages.size());
  if (wanted > free_pages()) return false;
  for (std::int64_t i = 0; i < wanted; ++i) {
    const int page = *free_pages_.begin();
    free_pages_.erase(free_pages_.begin());
    changes.push_back({.slot = slot, .index = static_cast<int>(pages.size()), .page = page});
    pages.push_back(page);
  }
  return true;
}

void PagePool::release(int slot) {
  free_pages_.insert(held_[slot].begin(), held_[slot].end());
  held_[slot].clear();
  free_slots_.insert(slot);
}

}  // namespace imhotep::schedule
